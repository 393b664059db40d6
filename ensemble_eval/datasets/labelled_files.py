"""The layout of one folder of images and a CSV `file,label` beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.items import Dataset, FileItem, is_hidden, is_image, require_folder, walk_files
from ensemble_eval.datasets.labels_table import read_labels, resolve_labels
from ensemble_eval.errors import InputError

_NAMED_AT_MOST = 5


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
    files = {path.relative_to(root).as_posix(): path for path in walk_files(root, leaving_out)}
    images = {
        name: path for name, path in files.items() if not is_hidden(name) and (is_image(path) or name in rows)
    }
    hidden = [name for name in rows if is_hidden(name) and os.path.lexists(root / name)]
    if not images and not hidden:
        raise InputError(f"{root} holds no images; give the folder that holds them")
    _refuse_mismatch(
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
    ignored = tuple(sorted(name for name in files if name not in images and not _is_table(name)))
    return Dataset(str(root), tuple(items), tuple(class_names) if class_names else None, ignored)


def _is_table(name: str) -> bool:
    return name.endswith(".csv")


def _refuse_mismatch(found: dict[str, list[str]]) -> None:
    """Refuse with all that is found, each kind with the first few of its files."""
    phrases = []
    for what, names in found.items():
        if names:
            more = ", …" if len(names) > _NAMED_AT_MOST else ""
            phrases.append(f"{len(names)} {what} ({', '.join(sorted(names)[:_NAMED_AT_MOST])}{more})")
    if phrases:
        raise InputError(f"{', and '.join(phrases)}; make the labels and the folder match")
