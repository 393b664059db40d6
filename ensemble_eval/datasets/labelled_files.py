"""The layout of one folder of images and a CSV `file,label` beside it."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from ensemble_eval.datasets.items import (
    NO_LABEL,
    Dataset,
    FileItem,
    files_below,
    is_hidden,
    is_image,
    require_folder,
)
from ensemble_eval.datasets.labels import refuse_mismatch
from ensemble_eval.datasets.labels_table import read_labels, resolve_labels
from ensemble_eval.errors import InputError


def open_labelled_files(
    root: Path,
    labels: Path,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    *,
    leaving_out: Path | None = None,
) -> Dataset:
    """Read the images below `root` with their labels from a CSV file.

    Args:
        root: holds the images, at any depth.
        labels: CSV with the header `file,label`; files are paths below `root`, labels are 0-based class
            indices or, with `class_names`, names; not some of them indices and some names.
        num_classes: labels run from 0 to `num_classes - 1`.
        class_names: names in index order.
        leaving_out: a resolved folder whose files do not count, wherever it lies.

    Raises:
        InputError: files without a label or labels without a file (the first few are named), a label out of range
            or that could be an index and a name, a file listed twice, or a CSV without the two columns.
    """
    require_folder(root)
    rows = read_labels(labels)
    files, not_followed = files_below(root, leaving_out)
    images = {
        name: path for name, path in files.items() if not is_hidden(name) and (is_image(path) or name in rows)
    }
    hidden = [name for name in rows if is_hidden(name) and os.path.lexists(root / name)]
    if not images and not hidden:
        raise InputError(f"{root} holds no images; give the folder that holds them")
    refuse_mismatch(
        {
            f"images have no label in {labels}": [name for name in images if name not in rows],
            f"files do not exist but stand in {labels}": [
                name for name in rows if name not in images and name not in hidden
            ],
            f"files are hidden, so that they take no part, but stand in {labels}": hidden,
        }
    )
    indices = resolve_labels(labels, rows, num_classes, class_names)
    items = [FileItem(name, indices[name], images[name]) for name in sorted(images)]
    ignored = _ignored(files, images, not_followed)
    names = tuple(class_names) if class_names else None
    return Dataset(str(root), tuple(items), names, ignored, f"files, with a table of labels ({labels})")


def open_files(root: Path, class_names: Sequence[str], *, leaving_out: Path | None = None) -> Dataset:
    """Read the images below `root` without labels.

    Args:
        root: holds the images, at any depth.
        class_names: names in index order.
        leaving_out: a resolved folder whose files do not count, wherever it lies.

    Raises:
        InputError: no such folder, or no images in it.
    """
    require_folder(root)
    files, not_followed = files_below(root, leaving_out)
    images = {name: path for name, path in files.items() if is_image(path) and not is_hidden(name)}
    if not images:
        raise InputError(f"{root} holds no images; give the folder that holds them")
    items = tuple(FileItem(name, NO_LABEL, images[name]) for name in sorted(images))
    ignored = _ignored(files, images, not_followed)
    return Dataset(str(root), items, tuple(class_names), ignored, "files")


def _ignored(files: Collection[str], images: Collection[str], not_followed: Sequence[str]) -> tuple[str, ...]:
    return (*sorted(name for name in files if name not in images and not _holds_labels(name)), *not_followed)


def _holds_labels(name: str) -> bool:
    """Whether a file that lies among images holds labels or annotations, which need not be spoken of."""
    return name.removesuffix(".gz").endswith((".csv", ".json", ".xml")) or (
        "devkit" in name and name.endswith((".txt", ".mat", ".tar.gz"))
    )
