"""The layout `root/<class>/<image>`: sorted class folders are the class indices."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.items import (
    Dataset,
    FileItem,
    is_hidden,
    is_image,
    is_left_out,
    refuse_undecodable,
    require_folder,
    walk_files,
)
from ensemble_eval.errors import InputError

_NUMBER = re.compile(r"\d+")


def open_class_folders(
    root: Path, class_names: Sequence[str] | None = None, *, leaving_out: Path | None = None
) -> Dataset:
    """Read a folder of class folders.

    Args:
        root: holds one folder per class; an empty one still counts as a class.
        class_names: folder names in index order. Without them the sorted folder names are the indices,
            which for ImageNet's WNIDs gives the usual order.
        leaving_out: a resolved folder that is no class and whose files do not count, wherever it lies.

    Raises:
        InputError: no such folder, no images, or folders that `class_names` does not list.
    """
    require_folder(root)
    folders = _class_folders(root, class_names, leaving_out)
    names = tuple(sorted(folders) if class_names is None else class_names)
    if class_names is None:
        _refuse_numbered(root, names)
    if unknown := sorted(set(folders) - set(names)):
        more = ", …" if len(unknown) > 3 else ""
        raise InputError(
            f"{root}: {len(unknown)} folders are not among the ensemble's {len(names)} classes "
            f"({', '.join(unknown[:3])}{more}); use the data set that the classes belong to"
        )
    indices = {name: index for index, name in enumerate(names)}
    items, ignored = [], []
    for name in sorted(folders):
        for path in walk_files(folders[name], leaving_out):
            identifier = path.relative_to(root).as_posix()
            if is_image(path) and not is_hidden(identifier):
                items.append(FileItem(identifier, indices[name], path))
            else:
                ignored.append(identifier)
    ignored += [path.name for path in sorted(root.iterdir()) if is_image(path) and not path.is_dir()]
    if not items:
        raise InputError(
            f"{root} holds no images in class folders; give a folder of class folders, or `labels` for a flat one"
        )
    return Dataset(str(root), tuple(sorted(items, key=lambda item: item.id)), names, tuple(ignored))


def _class_folders(root: Path, class_names: Sequence[str] | None, leaving_out: Path | None) -> dict[str, Path]:
    """The folders of classes by name."""
    paths = list(root.iterdir())
    refuse_undecodable(root, (path.name for path in paths))
    folders = {path.name: path for path in paths if path.is_dir() and not is_hidden(path.name)}
    return {
        name: path
        for name, path in folders.items()
        if not is_left_out(path, leaving_out)
        and (name in (class_names or ()) or not _only_leads_to(path, leaving_out))
    }


def _only_leads_to(folder: Path, leaving_out: Path | None) -> bool:
    """Whether a folder may have been made for the one in it that is left out: it holds no image."""
    if leaving_out is None or Path(os.path.realpath(folder)) not in leaving_out.parents:
        return False
    return not any(is_image(path) for path in walk_files(folder, leaving_out))


def _refuse_numbered(root: Path, names: Sequence[str]) -> None:
    """Folders named 0 … 999 sort as text (0, 1, 10, 100, …), which silently shuffles the classes."""
    if all(_NUMBER.fullmatch(name) for name in names) and list(names) != sorted(names, key=int):
        raise InputError(
            f"{root}: folders named by numbers sort as text (0, 1, 10, 100, …), not by class index; "
            "name them in the manifest's class list, or pad the numbers with zeros"
        )
