"""Choosing the reader for a data set, given the classes of the ensemble that will see it."""

from pathlib import Path

from ensemble_eval.datasets.class_folders import open_class_folders
from ensemble_eval.datasets.imagenet import WNIDS
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.labelled_files import open_labelled_files
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import ClassList


def open_dataset(
    root: Path, classes: ClassList, labels: Path | None = None, *, leaving_out: Path | None = None
) -> Dataset:
    """Open `root` with a labels CSV if one is given, and as class folders if not.

    Args:
        root: holds the images.
        classes: of the ensemble. Those of imagenet-1k are named by WNID; any of their folders may be missing.
        labels: a CSV `file,label`.
        leaving_out: the output folder, which may lie in the data set and takes no part in it.

    Raises:
        InputError: see the two readers; also class folders that are not the ensemble's classes, and a data set
            that is the output folder itself.
    """
    elsewhere = None if leaving_out is None else _folder_to_leave_out(root, leaving_out)
    names = WNIDS if classes.names is None else classes.names
    if labels is not None:
        return open_labelled_files(root, labels, classes.count, names, leaving_out=elsewhere)
    return open_class_folders(root, names, leaving_out=elsewhere)


def _folder_to_leave_out(root: Path, out: Path) -> Path | None:
    """The output folder, resolved; None if the data set lies in it, so that it cannot be in the data set."""
    images, results = root.resolve(), out.resolve()
    if images == results:
        raise InputError(
            f"--out {out} is the data set itself, and its files would mix with the images; choose another folder, "
            "which may be one inside it"
        )
    return None if results in images.parents else results
