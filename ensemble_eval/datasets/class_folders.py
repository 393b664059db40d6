"""The layout `root/<class>/<image>`: sorted class folders are the class indices."""

import re
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.items import Dataset, Item, is_image, refuse_undecodable, require_folder, walk_files
from ensemble_eval.errors import InputError

_NUMBER = re.compile(r"\d+")


def open_class_folders(root: Path, class_names: Sequence[str] | None = None) -> Dataset:
    """Read a folder of class folders.

    Args:
        root: holds one folder per class; an empty one still counts as a class.
        class_names: folder names in index order. Without them the sorted folder names are the indices,
            which for ImageNet's WNIDs gives the usual order.

    Raises:
        InputError: no such folder, no images, or folders that `class_names` does not list.
    """
    require_folder(root)
    refuse_undecodable(root, (path.name for path in root.iterdir()))
    folders = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    names = tuple(sorted(folders) if class_names is None else class_names)
    if class_names is None:
        _refuse_numbered(root, names)
    if unknown := sorted(set(folders) - set(names)):
        raise InputError(
            f"{root}: {len(unknown)} folders are not among the ensemble's {len(names)} classes "
            f"({', '.join(unknown[:3])}, …); use the data set that the classes belong to"
        )
    indices = {name: index for index, name in enumerate(names)}
    items, ignored = [], []
    for name in sorted(folders):
        for path in walk_files(folders[name]):
            identifier = path.relative_to(root).as_posix()
            if is_image(path):
                items.append(Item(identifier, indices[name], path))
            else:
                ignored.append(identifier)
    ignored += [path.name for path in sorted(root.iterdir()) if path.is_file() and is_image(path)]
    if not items:
        raise InputError(
            f"{root} holds no images in class folders; give a folder of class folders, or --labels for a flat one"
        )
    return Dataset(root, tuple(sorted(items, key=lambda item: item.id)), names, tuple(ignored))


def _refuse_numbered(root: Path, names: Sequence[str]) -> None:
    """Folders named 0 … 999 sort as text (0, 1, 10, 100, …), which silently shuffles the classes."""
    if len(names) > 10 and all(_NUMBER.fullmatch(name) for name in names) and len(set(map(len, names))) > 1:
        raise InputError(
            f"{root}: folders named by numbers sort as text (0, 1, 10, 100, …), not by class index; "
            "name them in the manifest's class list, or pad the numbers with zeros"
        )
