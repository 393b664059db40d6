"""Recognising the layout of a data set by its files and folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.datasets.folders import is_hidden, is_image, require_folder
from ensemble_eval.datasets.ilsvrc import GROUND_TRUTH
from ensemble_eval.datasets.tar import Index, has_class_folders, read_index
from ensemble_eval.datasets.webdataset import is_webdataset
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.patterns import expanded, is_pattern
from ensemble_eval.settings import Layout

# Names of a file of labels among the images, or beside an archive of them.
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
        labels: a file of labels that was found, for images without labels of their own.
        first: the index of the first archive, which was read to recognise the layout.
    """

    layout: Layout
    files: tuple[Path, ...]
    labels: Path | None = None
    first: Index | None = None


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
        InputError: nothing is there, or it has no known layout.
    """
    if is_pattern(root) or root.is_file():
        return _shards(root, expanded(root), layout, has_labels=has_labels)
    require_folder(root)
    paths = sorted(path for path in root.iterdir() if not is_hidden(path.name))
    files = [path for path in paths if not path.is_dir()]
    folders = {path.name for path in paths if path.is_dir() and path.resolve() != leaving_out}
    has_classes = not folders.isdisjoint(class_names) or any(map(str.isdecimal, folders))
    is_flat = not has_classes and any(map(is_image, files))
    shards = {each: [path for path in files if path.suffix.lower() == each] for each in (".tar", ".parquet")}
    if layout in ("tar", "webdataset", "parquet"):
        suffix = ".parquet" if layout == "parquet" else ".tar"
        if not shards[suffix]:
            raise InputError(f"{root} holds no {suffix} files; leave `layout` out to have it recognised")
        return _shards(root, shards[suffix], layout, has_labels=has_labels)
    if layout == "auto" and not has_classes and not is_flat and any(shards.values()):
        if all(shards.values()):
            raise InputError(f'{root} holds tar archives and Parquet files; say which with `layout="parquet"`')
        return _shards(root, shards[".tar"] or shards[".parquet"], layout, has_labels=has_labels)
    # What is meant by a folder of images and class folders is for the reader of class folders to say.
    if layout == "files" or (layout == "auto" and is_flat):
        return Found("files", (root,), None if has_labels else _labels_of_files(root, root, root.parent))
    return Found("class-folders", (root,))


def _shards(root: Path, paths: Sequence[Path], layout: Layout, *, has_labels: bool) -> Found:
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
    has_labels = has_labels or has_class_folders(index)
    return Found("tar", (paths[0],), None if has_labels else _labels_of_files(paths[0], paths[0].parent), index)


def _labels_of_files(root: Path, *places: Path) -> Path:
    """The only file of labels in the first of some folders that has any."""
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
