"""Which layout a data set has, by what lies there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.datasets.devkit import GROUND_TRUTH
from ensemble_eval.datasets.items import is_hidden, is_image, require_folder
from ensemble_eval.datasets.patterns import expanded, is_pattern
from ensemble_eval.datasets.tar_archive import Index, read_index
from ensemble_eval.datasets.tar_files import has_class_folders
from ensemble_eval.datasets.webdataset import is_webdataset
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.settings import Layout

# What a file of labels may be called that lies with the images, or beside an archive of them.
_LABEL_FILES = (
    "labels.csv",
    "val.txt",
    "LOC_val_solution.csv",
    "ILSVRC2012_devkit_t12",
    "ILSVRC2012_devkit_t12.tar.gz",
    GROUND_TRUTH,
)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


@dataclass(frozen=True)
class Found:
    """What a data set was recognised as.

    Attributes:
        layout: any but `auto`.
        files: the folder or archive, or the shards.
        labels: a file of labels that lies there, for images that have none of their own.
        first: what the first of the archives holds, which took a look to recognise it.
    """

    layout: Layout
    files: tuple[Path, ...]
    labels: Path | None = None
    first: Index | None = None


@dataclass(frozen=True)
class _Contents:
    """What lies at the top of a folder, hidden names left out."""

    folders: tuple[Path, ...]
    images: tuple[Path, ...]
    tars: tuple[Path, ...]
    parquets: tuple[Path, ...]


def recognise(
    root: Path, class_names: Sequence[str], layout: Layout, *, has_labels: bool, leaving_out: Path | None
) -> Found:
    """Say how a data set is to be read.

    Args:
        root: a folder, a file, or a pattern of files.
        class_names: in index order.
        layout: what the user says it is; `auto` to look.
        has_labels: whether the user says where labels are, or that there are none.
        leaving_out: a resolved folder that is not part of the data set.

    Raises:
        InputError: nothing is there, or it is none of the layouts.
    """
    if is_pattern(root):
        return _shards(root, expanded(root), layout, has_labels=has_labels)
    if root.is_file():
        return _shards(root, [root], layout, has_labels=has_labels)
    require_folder(root)
    contents = _contents(root, leaving_out)
    if layout in ("tar", "webdataset"):
        return _shards(root, _some(root, contents.tars, ".tar"), layout, has_labels=has_labels)
    if layout == "parquet":
        return _shards(root, _some(root, contents.parquets, ".parquet"), layout, has_labels=has_labels)
    if layout == "auto" and not contents.images and not _has_classes(contents, class_names):
        if contents.tars and contents.parquets:
            raise InputError(f'{root} holds tar archives and Parquet files; say which with `layout="parquet"`')
        if shards := contents.tars or contents.parquets:
            return _shards(root, list(shards), layout, has_labels=has_labels)
    if layout == "files" or (layout == "auto" and _is_flat(contents, class_names)):
        return Found("files", (root,), None if has_labels else _labels_of_files(root))
    return Found("class-folders" if layout == "auto" else layout, (root,))


def _contents(root: Path, leaving_out: Path | None) -> _Contents:
    paths = sorted(path for path in root.iterdir() if not is_hidden(path.name))
    folders = tuple(path for path in paths if path.is_dir() and path.resolve() != leaving_out)
    files = [path for path in paths if not path.is_dir()]

    def ending(matches: Callable[[Path], bool]) -> tuple[Path, ...]:
        return tuple(path for path in files if matches(path))

    return _Contents(
        folders,
        ending(is_image),
        ending(lambda path: path.suffix.lower() == ".tar"),
        ending(lambda path: path.suffix.lower() == ".parquet"),
    )


def _has_classes(contents: _Contents, class_names: Sequence[str]) -> bool:
    names = set(class_names)
    return any(folder.name in names or folder.name.isdecimal() for folder in contents.folders)


def _is_flat(contents: _Contents, class_names: Sequence[str]) -> bool:
    """Images and no class folders: what is meant by a folder of both is for the reader of class folders to say."""
    return bool(contents.images) and not _has_classes(contents, class_names)


def _some(root: Path, paths: tuple[Path, ...], suffix: str) -> list[Path]:
    if not paths:
        raise InputError(f"{root} holds no {suffix} files; leave `layout` out to have it recognised")
    return list(paths)


def _shards(root: Path, paths: list[Path], layout: Layout, *, has_labels: bool) -> Found:
    """The layout of archives or Parquet files, by the names and by the first one's content."""
    if layout in ("class-folders", "files"):
        raise InputError(f'`layout="{layout}"` is for a folder, and {root} is none; leave `layout` out')
    suffixes = {path.suffix.lower() for path in paths}
    if layout == "parquet" or suffixes == {".parquet"}:
        return Found("parquet", tuple(paths))
    if any(path.name.lower().endswith(_PACKED) for path in paths):
        raise InputError(
            f"{root} is compressed, so that its images cannot be read one by one; unpack it, or make a .tar of it"
        )
    if suffixes != {".tar"}:
        raise InputError(
            f"the data set {root} is none that is known: give a folder of images, a .tar, or .parquet files"
        )
    index = read_index(paths[0])
    if layout == "webdataset" or (layout == "auto" and (len(paths) > 1 or is_webdataset(index))):
        return Found("webdataset", tuple(paths), None, index)
    if len(paths) > 1:
        raise InputError(f'`layout="tar"` is for one archive, and there are {len(paths)}; name one of them')
    if has_labels or has_class_folders(index):
        return Found("tar", (paths[0],), None, index)
    return Found("tar", (paths[0],), _labels_of_files(paths[0], paths[0].parent), index)


def _labels_of_files(root: Path, folder: Path | None = None) -> Path:
    """The one file of labels that lies in a folder of images, or beside it or the archive."""
    places = [folder] if folder else [root, root.parent]
    for place in places:
        there = [place / name for name in _LABEL_FILES if (place / name).exists()]
        if len(there) > 1:
            names = first_names([path.name for path in there])
            raise InputError(f"{place} holds several files of labels ({names}); say which with `labels`")
        if there:
            return there[0]
    raise InputError(
        f"{root} holds no images in class folders; give a folder of class folders, or `labels` for a flat one, "
        'which are "none" for images without labels'
    )
