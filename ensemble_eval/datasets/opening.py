"""Choosing the reader for a data set, given the classes of the ensemble that will see it."""

from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.imagenet import WNIDS
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.labelled_files import open_labelled_files
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import ClassList, class_list


def open_dataset(
    root: str | Path,
    classes: str | Path | Sequence[str] | ClassList,
    labels: str | Path | None = None,
    *,
    leaving_out: str | Path | None = None,
) -> Dataset:
    """Open a folder of class folders or, with a table of labels, any folder of images.

    Args:
        root: holds the images.
        classes: those of the ensemble: "imagenet-1k", their names in index order, a text file of them, or
            `Ensemble.classes`. Class folders of imagenet-1k are named by WNID; any of them may be missing.
        labels: CSV with the header `file,label`; labels are 0-based class indices or names.
        leaving_out: the output folder, which may lie in the data set and takes no part in it.

    Raises:
        InputError: no such folder, no images in it, class folders that are not among the classes, labels that do
            not match the images, or a data set that is the output folder itself.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("ant", "bee"):
        ...     (root / name).mkdir()
        ...     _ = (root / name / "1.jpeg").write_bytes(b"an image")
        >>> [(item.id, item.label) for item in open_dataset(root, ["ant", "bee"]).items]
        [('ant/1.jpeg', 0), ('bee/1.jpeg', 1)]
    """
    root, classes = Path(root), class_list(classes)
    elsewhere = None if leaving_out is None else _folder_to_leave_out(root, Path(leaving_out))
    names = WNIDS if classes.names is None else classes.names
    if labels is not None:
        return open_labelled_files(root, Path(labels), classes.count, names, leaving_out=elsewhere)
    return open_class_folders(root, names, leaving_out=elsewhere)


def _folder_to_leave_out(root: Path, out: Path) -> Path | None:
    """The output folder, resolved; None if the data set lies in it, so that it cannot be in the data set."""
    images, results = root.resolve(), out.resolve()
    if images == results:
        raise InputError(
            f'`out="{out}"` is the data set itself, and its files would mix with the images; choose another '
            "folder, which may be one inside it"
        )
    return None if results in images.parents else results
