"""The layout `root/<class>/<image>`: sorted class folders are the class indices."""

import itertools
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ensemble_eval.datasets.items import (
    Dataset,
    FileItem,
    files_below,
    is_hidden,
    is_image,
    is_left_out,
    refuse_undecodable,
    require_folder,
)
from ensemble_eval.errors import InputError, first_names

LAYOUT = "class folders"
_NUMBER = re.compile(r"[0-9]{1,9}")


def open_class_folders(
    root: Path, class_names: Sequence[str] | None = None, *, leaving_out: Path | None = None
) -> Dataset:
    """Read a folder of class folders.

    Args:
        root: holds one folder per class; an empty one still counts as a class.
        class_names: folder names in index order. Without them the sorted folder names are the indices,
            which for ImageNet's WNIDs gives the usual order; numbers are sorted as numbers.
        leaving_out: a resolved folder that is no class and whose files do not count, wherever it lies.

    Raises:
        InputError: no such folder, no images, or folders that `class_names` does not list.
    """
    require_folder(root)
    folders = _class_folders(root, class_names, leaving_out)
    names = tuple(_sorted_names(root, folders) if class_names is None else class_names)
    indices = class_indices(root, folders, names)
    files, not_followed = files_below(root, leaving_out, folders.values())
    if ambiguous := [link for link in not_followed if "/" not in link.partition(" -> ")[0]]:
        raise InputError(
            f"{root}: {len(ambiguous)} class folders are links to images of other classes "
            f"({first_names(ambiguous)}); remove them"
        )
    items, ignored = [], []
    for identifier, path in files.items():
        if is_image(path) and not is_hidden(identifier):
            items.append(FileItem(identifier, indices[identifier.partition("/")[0]], path))
        else:
            ignored.append(identifier)
    ignored += [path.name for path in sorted(root.iterdir()) if is_image(path) and not path.is_dir()]
    ignored += not_followed
    if not items:
        raise InputError(
            f"{root} holds no images in class folders; give a folder of class folders, or `labels` for a flat one"
        )
    return Dataset(str(root), tuple(sorted(items, key=lambda item: item.id)), names, tuple(ignored), LAYOUT)


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


def _sorted_names(root: Path, names: Collection[str]) -> list[str]:
    return _by_number(root, names) if names and all(map(_is_number, names)) else sorted(names)


def _only_leads_to(folder: Path, leaving_out: Path | None) -> bool:
    """Whether a folder may have been made for the one in it that is left out: it holds no image."""
    if leaving_out is None or Path(os.path.realpath(folder)) not in leaving_out.parents:
        return False
    return not any(map(is_image, files_below(folder, leaving_out)[0].values()))


def class_indices(root: Path, folders: Collection[str], class_names: Sequence[str]) -> dict[str, int]:
    """The class index of each folder's name.

    Folders that are not named by classes but by numbers are sorted as numbers. Where each class has its folder,
    their order is the classes' order. Where some are missing, the numbers are indices, if there is a folder 0:
    without one, nobody can tell whether they count from 0 or from 1.

    Args:
        root: for messages.
        folders: their names.
        class_names: in index order.

    Raises:
        InputError: folders that are no classes.
    """
    indices = {name: index for index, name in enumerate(class_names)}
    unknown = sorted(set(folders) - set(indices))
    if not unknown:
        return {name: indices[name] for name in folders}
    if not all(_is_number(name) for name in folders):
        more = ", …" if len(unknown) > 3 else ""
        raise InputError(
            f"{root}: {len(unknown)} folders are not among the ensemble's {len(class_names)} classes "
            f"({', '.join(unknown[:3])}{more}); use the data set that the classes belong to"
        )
    numbered = _by_number(root, folders)
    if len(numbered) == len(class_names):
        return {name: index for index, name in enumerate(numbered)}
    if "0" not in {name.lstrip("0") or "0" for name in numbered} or int(numbered[-1]) >= len(class_names):
        raise InputError(
            f"{root}: {len(numbered)} folders are named by the numbers {numbered[0]} to {numbered[-1]}, which are "
            f"not the indices of {len(class_names)} classes from 0 on; name them in the manifest's class list"
        )
    return {name: int(name) for name in numbered}


def _by_number(root: Path, names: Collection[str]) -> list[str]:
    """Names that are numbers, sorted as numbers: as text, 10 would stand before 2."""
    ordered = sorted(names, key=lambda name: (int(name), name))
    for before, name in itertools.pairwise(ordered):
        if int(before) == int(name):
            raise InputError(f"{root}: the folders {before} and {name} are of one number; rename one of them")
    return ordered


def _is_number(name: str) -> bool:
    return _NUMBER.fullmatch(name) is not None
