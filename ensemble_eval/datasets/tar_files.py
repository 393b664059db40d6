"""The layouts of one tar archive: class folders in it, or images whose labels are elsewhere."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ensemble_eval.datasets.class_folders import class_indices
from ensemble_eval.datasets.items import NO_LABEL, Dataset, is_hidden, is_image
from ensemble_eval.datasets.tar_archive import Index, Member, TarItem, read_index
from ensemble_eval.errors import InputError


def open_tar(path: Path, class_names: Sequence[str], *, with_folders: bool, index: Index | None = None) -> Dataset:
    """Read the images of a tar archive by their offsets; nothing is unpacked.

    Args:
        path: of the archive, which is not compressed.
        class_names: in index order.
        with_folders: take the folders in the archive for classes, below one folder that holds them all if there
            is one. Otherwise the images have no labels yet.
        index: of the archive, where it was read before.

    Raises:
        InputError: see `read_index`; no image, or folders that are no classes.
    """
    index = read_index(path) if index is None else index
    images = {member.name: member for member in index.members if _is_shown_image(member)}
    if not images:
        raise InputError(f"the archive {path} holds no images; give the archive that holds them")
    ignored = [*index.ignored, *(member.name for member in index.members if not _is_shown_image(member))]
    if not with_folders:
        items = [TarItem(name, NO_LABEL, images[name].stored) for name in sorted(images)]
        return Dataset(str(path), tuple(items), tuple(class_names), tuple(sorted(ignored)), "a tar of images")
    inside = _below_common_folder(images)
    labels = class_indices(path, {name.partition("/")[0] for name in inside}, class_names)
    items = [TarItem(name, labels[name.partition("/")[0]], inside[name].stored) for name in sorted(inside)]
    return Dataset(str(path), tuple(items), tuple(class_names), tuple(sorted(ignored)), "a tar of class folders")


def has_class_folders(index: Index) -> bool:
    """Whether all images of an archive lie in folders, and not all of them in one."""
    names = [member.name for member in index.members if _is_shown_image(member)]
    folders = {name.rpartition("/")[0] for name in names}
    return "" not in folders and len(folders) > 1


def _below_common_folder(images: dict[str, Member]) -> dict[str, Member]:
    """The images by their names below the one folder in which all class folders lie, if there is one."""
    while len({name.partition("/")[0] for name in images}) == 1 and all(name.count("/") > 1 for name in images):
        images = {name.partition("/")[2]: member for name, member in images.items()}
    return images


def _is_shown_image(member: Member) -> bool:
    return is_image(Path(PurePosixPath(member.name))) and not is_hidden(member.name)
