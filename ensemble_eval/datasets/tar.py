"""Tar archives, read in place: one pass over their headers, then the bytes of each file by their offset."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ensemble_eval.datasets.folders import class_indices, is_shown_image, refuse_undecodable
from ensemble_eval.datasets.items import NO_LABEL, ByteRange, Container, Dataset, RangeItem, container_of
from ensemble_eval.errors import InputError, refusing
from ensemble_eval.files import open_regular
from ensemble_eval.locations import ObjectFile

# A header is a block; long names and their kin take a few more. What claims more than this is damaged.
_MAX_HEADER_BYTES = 1 << 20
# Small files beside images in a bucket are labels.
_MAX_LABEL_BYTES = 1 << 14
# What undoes a compression, by the bytes that the compressed file begins with.
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd"}


@dataclass(frozen=True)
class Index:
    """What a tar archive holds.

    Attributes:
        files: the bytes of its regular files by name, in its order. Names have forward slashes,
            and are neither absolute nor with dots for folders.
        ignored: names of everything else: links, devices, and files whose names lead out of the archive.
    """

    files: Mapping[str, ByteRange]
    ignored: tuple[str, ...]


def read_index(path: Path) -> Index:
    """Read the headers of a tar archive, and nothing of its files.

    Raises:
        InputError: it cannot be read, is compressed, damaged or cut short, or holds a file twice.
    """
    unreadable = refusing(f"the archive {path} cannot be read", "check the path", OSError)
    with unreadable, open_regular(path, buffering=0) as file:
        return _index(container_of(path, file), file)


def open_tar(path: Path, class_names: Sequence[str], *, with_folders: bool, index: Index) -> Dataset:
    """Read the images of one tar archive by their offsets; nothing is unpacked.

    Args:
        path: of the archive, which is not compressed.
        class_names: in index order.
        with_folders: take the folders in the archive for classes, below one folder that holds them all if there
            is one. Otherwise the images have no labels yet.
        index: of the archive.

    Raises:
        InputError: no image, or folders that are no classes.
    """
    images = _images(index)
    if not images:
        raise InputError(f"the archive {path} holds no images; give the archive that holds them")
    ignored = sorted((*index.ignored, *(name for name in index.files if name not in images)))
    labels: Mapping[str, int] = {}
    if with_folders:
        # Below the one folder in which all class folders lie, if there is one.
        while len(_top_folders(images)) == 1 and all(name.count("/") > 1 for name in images):
            images = {name.partition("/")[2]: stored for name, stored in images.items()}
        labels = class_indices(path, _top_folders(images), class_names)
    label_of = {name: labels.get(name.partition("/")[0], NO_LABEL) for name in sorted(images)}
    items = [RangeItem(name, label, images[name]) for name, label in label_of.items()]
    layout = f"a tar of {'class folders' if with_folders else 'images'}"
    return Dataset(str(path), tuple(items), tuple(class_names), tuple(ignored), layout)


def has_class_folders(index: Index) -> bool:
    """Whether all images of an archive are in folders, and not all of them in one."""
    folders = {posixpath.dirname(name) for name in _images(index)}
    return "" not in folders and len(folders) > 1


def _images(index: Index) -> dict[str, ByteRange]:
    return {name: stored for name, stored in index.files.items() if is_shown_image(name)}


def _top_folders(names: Iterable[str]) -> set[str]:
    return {name.partition("/")[0] for name in names}


def _index(archive: Container, file: BinaryIO) -> Index:
    for magic, program in _COMPRESSED.items():
        if _read_at(file, 0, len(magic)) == magic:
            raise InputError(
                f"{archive.path} is compressed, so that its images cannot be read one by one; use `{program}` on "
                "it first"
            )
    files: dict[str, ByteRange] = {}
    ignored = []
    for info in _headers(archive, file):
        if info.isdir():
            continue
        refuse_undecodable(archive.path, [info.name])
        name = _inner_name(info.name)
        if name is None or not info.isreg() or info.issparse():
            ignored.append(info.name)
            continue
        if name in files:
            raise InputError(f"{archive.path} holds {name} twice; keep one of the two")
        files[name] = ByteRange(archive, info.offset_data, info.size)
        if isinstance(file, ObjectFile) and info.size <= _MAX_LABEL_BYTES and not is_shown_image(name):
            # It came with its header, and is kept with the listing; asking for it later would take a request.
            _read_at(file, info.offset_data, info.size)
    return Index(files, tuple(ignored))


def _inner_name(name: str) -> str | None:
    """A name as a path below the archive's root; None for one that leads elsewhere."""
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        return None
    inner = posixpath.normpath(name)
    return None if inner in (".", "") else inner


def _headers(archive: Container, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The headers in their order."""
    reader: Any = _HeaderReader(file)
    damage = f"{archive.path} is no tar archive, or is damaged or cut short"
    with refusing(damage, "get it again"), tarfile.open(fileobj=reader, mode="r:") as tar:
        yield from checked_headers(tar, archive.size)
        rest = tar.offset
    _refuse_unread(archive, file, rest)


def checked_headers(tar: tarfile.TarFile, size: int) -> Iterator[tarfile.TarInfo]:
    """The headers in their order, each of which is behind the one before, and whose file is complete.

    Args:
        tar: the archive.
        size: its bytes.

    Raises:
        tarfile.ReadError: a file is not where its header says.
    """
    end = -1
    while (info := tar.next()) is not None:
        # A size below zero would lead back to what was read, without an end.
        if info.size < 0 or info.offset_data <= end or info.offset_data + info.size > size:
            raise tarfile.ReadError(f"{info.name!r} does not lie where its header says")
        end = info.offset_data
        # They would pile up otherwise, a kilobyte for each image.
        tar.members.clear()  # type: ignore[attr-defined]  # the stub leaves it out
        yield info


def _refuse_unread(archive: Container, file: BinaryIO, rest: int) -> None:
    """Where tarfile finds no header it stops without a word: only zeros may follow, at least a block of them."""
    position, found = rest, b""
    while found := _read_at(file, position, _MAX_HEADER_BYTES):
        if found.strip(b"\0"):
            raise InputError(
                f"{archive.path} is damaged, or several archives in one: behind byte {rest} there is more that is "
                "no file of it; get it again"
            )
        position += len(found)
    if position - rest < tarfile.BLOCKSIZE:
        raise InputError(f"{archive.path} ends without the mark of a tar's end, so it was cut short; get it again")


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


class _HeaderReader:
    """A tar file for tarfile, which would read as many bytes as a damaged header claims to have."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int | None = -1) -> bytes:
        """At most as many bytes as a header may have."""
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._file.read(size)
