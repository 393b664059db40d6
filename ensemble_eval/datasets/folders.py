"""The layouts of a folder: class folders, whose sorted names are the class indices, and images without labels."""

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from ensemble_eval.datasets.items import NO_LABEL, Dataset, FileItem
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.fields import not_utf8
from ensemble_eval.locations import ObjectPath

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
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
    if class_names is None:
        are_numbers = bool(folders) and all(map(_NUMBER.fullmatch, folders))
        class_names = _by_number(root, folders) if are_numbers else sorted(folders)
    names = tuple(class_names)
    indices = class_indices(root, folders, names)
    files, not_followed = _files_below(root, leaving_out, folders.values())
    if ambiguous := [link for link in not_followed if "/" not in link.partition(" -> ")[0]]:
        raise InputError(
            f"{root}: {len(ambiguous)} class folders are links to images of other classes "
            f"({first_names(ambiguous)}); remove them"
        )
    shown = set(filter(is_shown_image, files))
    stray = [path.name for path in sorted(root.iterdir()) if is_image(path) and not path.is_dir()]
    ignored = (*(identifier for identifier in files if identifier not in shown), *stray, *not_followed)
    if not shown:
        raise InputError(
            f"{root} holds no images in class folders; give a folder of class folders, or `labels` for a flat one"
        )
    items = tuple(FileItem(each, indices[each.partition("/")[0]], root) for each in sorted(shown))
    return Dataset(str(root), items, names, ignored, "class folders")


def open_files(
    root: Path, class_names: Sequence[str], *, listed: Collection[str] = (), leaving_out: Path | None = None
) -> Dataset:
    """Read the images below `root`, at any depth, without labels.

    Args:
        root: the folder.
        class_names: in index order.
        listed: ids of files that are images whatever their suffix, unless they are hidden.
        leaving_out: a resolved folder whose files do not count, wherever it lies.

    Raises:
        InputError: no such folder, or no images in it.
    """
    require_folder(root)
    files, not_followed = _files_below(root, leaving_out)
    images = sorted(name for name in files if not is_hidden(name) and (is_image(name) or name in listed))
    if not images and not any(is_hidden(name) and lexists(root / name) for name in listed):
        raise InputError(f"{root} holds no images; give the folder that holds them")
    items = tuple(FileItem(name, NO_LABEL, root) for name in images)
    others = sorted(name for name in set(files) - set(images) if not _holds_labels(name))
    return Dataset(str(root), items, tuple(class_names), (*others, *not_followed), "files")


def _holds_labels(name: str) -> bool:
    """Whether a file among the images holds labels or annotations, which need no mention."""
    return name.removesuffix(".gz").endswith((".csv", ".json", ".xml")) or (
        "devkit" in name and name.endswith((".txt", ".mat", ".tar.gz"))
    )


def _class_folders(root: Path, class_names: Sequence[str] | None, leaving_out: Path | None) -> dict[str, Path]:
    """The folders of classes by name."""
    paths = list(root.iterdir())
    refuse_undecodable(root, (path.name for path in paths))
    return {
        path.name: path
        for path in paths
        if (path.is_dir() and not is_hidden(path.name) and not _is_left_out(path, leaving_out))
        and (path.name in (class_names or ()) or not _only_leads_to(path, leaving_out))
    }


def _only_leads_to(folder: Path, leaving_out: Path | None) -> bool:
    """Whether a folder may have been made for the one in it that is left out: it holds no image."""
    if leaving_out is None or _real(folder) not in leaving_out.parents:
        return False
    return not any(map(is_image, _files_below(folder, leaving_out)[0]))


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
    if not all(map(_NUMBER.fullmatch, folders)):
        raise InputError(
            f"{root}: {len(unknown)} folders are not among the ensemble's {len(class_names)} classes "
            f"({first_names(unknown)}); use the data set that the classes belong to"
        )
    numbered = _by_number(root, folders)
    if len(numbered) == len(class_names):
        return {name: index for index, name in enumerate(numbered)}
    if int(numbered[0]) != 0 or int(numbered[-1]) >= len(class_names):
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


def lexists(path: Path) -> bool:
    """Whether there is such a file, folder or link, wherever a link leads."""
    return path.exists() if isinstance(path, ObjectPath) else os.path.lexists(path)


def require_folder(root: Path) -> None:
    """Refuse a data set's root that is missing or is a file."""
    if not root.is_dir():
        reason = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"the data set {root} {reason}; give the folder that holds the images")


def _files_below(
    root: Path, leaving_out: Path | None = None, folders: Iterable[Path] | None = None
) -> tuple[list[str], list[str]]:
    """The ids of all files below `root`, and the links that are not followed, as `ls -l` shows them.

    Of what is hidden, images and folders come, so that callers can name them; hidden folders are not entered.
    Links to folders are followed after everything below `root` itself, in the order of their names. A link to a
    folder that is read already, or to one that holds such a folder, is not followed: images would count twice, and
    under another class.

    Args:
        root: the folder of the data set.
        leaving_out: a resolved folder that does not count as part of `root`, wherever it is met.
        folders: those in `root` that are read; None for `root` with all that is in it.

    Raises:
        InputError: a folder cannot be read, a name is not UTF-8, so that no table could hold it, or images are in
            the folder that is left out.
    """
    if isinstance(root, ObjectPath):
        return _objects_below(root, leaving_out, folders), []
    files: list[str] = []
    not_followed = []
    real_root = Path(os.path.realpath(root))
    # Real paths: what is read, and what holds it.
    read: set[str] = set()
    above = set() if folders is None else {str(real_root), *map(str, real_root.parents)}
    waiting = sorted([root] if folders is None else folders, key=lambda path: (path.is_symlink(), path))
    while waiting:
        links: list[Path] = []
        for start in waiting:
            real = os.path.realpath(start)
            if real in read or real in above:
                target = str(start.readlink())
                refuse_undecodable(start.parent, [target])
                not_followed.append(f"{start.relative_to(root).as_posix()} -> {target}")
                continue
            above.update(map(str, Path(real).parents))
            for folder, found, its_links in _walk(start, leaving_out):
                read.add(os.path.realpath(folder))
                files += [path.relative_to(root).as_posix() for path in found]
                links += its_links
        waiting = sorted(links)
    return files, not_followed


def _objects_below(root: ObjectPath, leaving_out: Path | None, folders: Iterable[Path] | None) -> list[str]:
    """Like `_files_below`, for a bucket, which has no links."""
    # Of a hidden folder all objects have one id.
    files: dict[str, None] = {}
    wanted = None if folders is None else {folder.name for folder in folders}
    left_out = f"{leaving_out}/" if isinstance(leaving_out, ObjectPath) else None
    first = len(root.key) + 1 if root.key else 0
    for key, _ in root.below():
        identifier = key[first:]
        if wanted is not None and identifier.partition("/")[0] not in wanted:
            continue
        if left_out is not None and f"{root}/{identifier}".startswith(left_out):
            _refuse_image(leaving_out, identifier)
            continue
        above, _, name = identifier.rpartition("/")
        if is_hidden(above):
            # Only the hidden folder is listed, not what is in it.
            parts = above.split("/")
            name = parts[next(place for place, part in enumerate(parts) if is_hidden(part))]
            identifier = above[: above.index(name) + len(name)]
        if is_image(identifier) or not is_hidden(name) or is_hidden(above):
            files[identifier] = None
    refuse_undecodable(root, files)
    return list(files)


def _walk(start: Path, leaving_out: Path | None) -> Iterator[tuple[str, list[Path], list[Path]]]:
    """Each folder, what it holds to be named, and the links to folders in it, which are not entered."""
    for folder, subfolders, names in os.walk(start, onerror=_refuse_unreadable):
        there = sorted(name for name in subfolders if not _is_left_out(Path(folder, name), leaving_out))
        refuse_undecodable(folder, [*there, *names])
        subfolders[:] = [name for name in there if not is_hidden(name)]
        shown = [name for name in sorted(names) if is_image(name) or not is_hidden(name)]
        found = [Path(folder, name) for name in (*filter(is_hidden, there), *shown)]
        yield folder, found, [path for name in subfolders if (path := Path(folder, name)).is_symlink()]


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(
        f"the folder {error.filename} cannot be read ({error.strerror}), so its images would be missing; "
        "fix its permissions"
    ) from error


def _real(path: Path) -> Path:
    return path if isinstance(path, ObjectPath) else Path(os.path.realpath(path))


def _is_left_out(folder: Path, leaving_out: Path | None) -> bool:
    """Whether `folder` leads to the resolved folder `leaving_out`, by links too.

    Raises:
        InputError: it does, and images are in it, which would be missing without a word.
    """
    if leaving_out is None or _real(folder) != leaving_out:
        return False
    for name in _files_below(leaving_out)[0]:
        _refuse_image(folder, PurePath(name).name)
    return True


def _refuse_image(out: Path | None, name: str) -> None:
    """Refuse an image in the output folder."""
    if is_shown_image(name):
        raise InputError(f'`out="{out}"` holds images of the data set ({name}, …); choose a folder of its own')


def refuse_undecodable(folder: str | Path, names: Iterable[str]) -> None:
    """Refuse names that are not UTF-8, so that no table could hold them."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{folder} holds the name {name!r}, which {not_utf8()}") from error


def is_hidden(identifier: str) -> bool:
    """Whether a name in a path begins with a dot, as macOS's `._x.JPEG` beside `x.JPEG` does."""
    return any(part.startswith(".") and part.strip(".") for part in identifier.split("/"))


def is_image(path: str | Path) -> bool:
    """Whether the suffix is one of an image format that is read."""
    return PurePath(path).suffix.lower() in IMAGE_SUFFIXES


def is_shown_image(identifier: str) -> bool:
    """Whether a file is an image by its suffix, and not hidden."""
    return is_image(identifier) and not is_hidden(identifier)
