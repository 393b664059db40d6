"""Paths in object storage, with the interface of local paths, so that no other code has to distinguish the two.

`location` turns what a user wrote into a path: `s3://`, `gs://` and `az://` name objects in buckets, `http(s)://`
a file to be read, and everything else a local file.
"""

import contextlib
import fnmatch
import functools
import io
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING, Any

from ensemble_eval import stores
from ensemble_eval.errors import InputError
from ensemble_eval.stores import (
    Meta,
    MissingObjectError,
    ObjectError,
    Tree,
    meta_of,
    obstore,
    translated,
)

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

_SCHEMES = ("s3", "gs", "az", "http", "https")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Small reads fetch this many bytes, because a request takes as long as reading them.
_READ_AHEAD = 1 << 20


class ObjectPath(PosixPath):
    """The URL of an object, or of all objects below it, as a path.

    Folders exist only as beginnings of keys. Objects are written as a whole, and cannot be appended to. A call
    that needs a real file, such as `os.open`, is refused with a sentence; `local_copy` makes such a file.

    Attributes:
        tree: A listing that answers instead of the store; objects must still be as they were listed.
        listed: What the store said when it listed the object's folder a moment ago.
    """

    tree: Tree | None = None
    listed: Meta | None = None

    @property
    def key(self) -> str:
        """The key of the object in its bucket."""
        return "/".join(self.parts[2:])

    @property
    def can_be_listed(self) -> bool:
        """Whether the store lists its objects; a web server does not."""
        return not self.parts[0].startswith("http")

    def _request(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of obstore for this object."""
        with translated(self):
            return getattr(obstore(), name)(self._store(), self.key, *arguments, **options)

    def _get(self, **options: Any) -> tuple[bytes, Meta]:
        with translated(self):
            found = obstore().get(self._store(), self.key, options=options)
            return bytes(found.bytes()), meta_of(found.meta)

    def _store(self) -> Any:
        return stores.store_of("//".join(self.parts[:2]))

    def at(self, key: str) -> "ObjectPath":
        """Return the path of another key in the same bucket and listing; `..` in it is the folder above.

        Raises:
            InputError: The key leads out of the bucket.
        """
        # No key has such a part, but a manifest beside the folder of its weights does.
        parts = posixpath.normpath(key).split("/") if ".." in key else [key]
        if parts[0] == "..":
            raise InputError(f"{key} leads out of the bucket {'//'.join(self.parts[:2])}; check the path")
        path = ObjectPath(*self.parts[:2], *parts)
        path.tree = self.tree
        return path

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(":/", "://", 1) if self.parts and self.parts[0][:-1] in _SCHEMES else text

    def __fspath__(self) -> str:
        raise InputError(
            f"{self} is in a bucket, but only a file on this machine can be used here; copy it to this machine"
        )

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, ObjectPath) or _URL.match(str(other)):
            return location(other)
        if str(other).startswith("/"):
            return Path(other)
        return self.at(f"{self.key}/{other}".lstrip("/"))

    def __rtruediv__(self, other: Any) -> Any:
        # As an absolute path replaces the folder before it.
        return self

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> "ObjectPath":
        return self

    def resolve(self, strict: bool = False) -> "ObjectPath":  # noqa: ARG002 (an argument of Path)
        return self

    def is_symlink(self) -> bool:
        return False

    def meta(self) -> Meta:
        """Return size, version and age of the object.

        Raises:
            ObjectError: There is none, or the store does not answer.
        """
        if self.tree is not None and self.tree.covers(self.key):
            if self.key not in self.tree.objects:
                raise MissingObjectError(f"{self} does not exist; check the URL")
            return self.tree.objects[self.key]
        if self.listed is not None:
            return self.listed
        return meta_of(self._request("head"))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002 (an argument of Path)
        size, _, modified = self.meta()
        return os.stat_result((0o100444, 0, 0, 1, 0, 0, size, modified, modified, modified))

    def is_file(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return bool(self.key) and self.meta() is not None
        return False

    def is_dir(self) -> bool:
        if self.tree is not None and self.tree.covers(self.key):
            return bool(self.tree.children(self.key))
        return self.can_be_listed and any(True for _ in self.below())

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def below(self) -> Iterator[tuple[str, Meta]]:
        """Yield key and description of each object below this path, in no order."""
        if self.tree is not None:
            folder = f"{self.key}/" if self.key else ""
            yield from ((key, meta) for key, meta in self.tree.objects.items() if key.startswith(folder))
            return
        if not self.can_be_listed:
            raise ObjectError(f"{self} is on a web server, which does not list its files; name a single file")
        with translated(self):
            for chunk in obstore().list(self._store(), self.key or None, chunk_size=1000):
                for entry in chunk:
                    yield entry["path"], meta_of(entry)

    def iterdir(self) -> Iterator["ObjectPath"]:  # type: ignore[override]  # paths of its own kind
        if self.tree is not None and self.tree.covers(self.key):
            yield from (self / name for name in self.tree.children(self.key))
            return
        listed = self._request("list_with_delimiter")
        yield from map(self.at, listed["common_prefixes"])
        for entry in listed["objects"]:
            if entry["path"] not in listed["common_prefixes"]:
                path = self.at(entry["path"])
                path.listed = meta_of(entry)
                yield path

    def glob(self, pattern: str, **_: Any) -> Iterator["ObjectPath"]:  # type: ignore[override]  # paths of its own kind
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str, **_: Any) -> Iterator["ObjectPath"]:  # type: ignore[override]  # paths of its own kind
        return (self.at(key) for key, _ in self.below() if fnmatch.fnmatchcase(key.rpartition("/")[2], pattern))

    def mkdir(self, *_: Any, **__: Any) -> None:
        # A folder exists as soon as there is an object in it.
        return

    def open(self, mode: str = "r", buffering: int = -1, *_: Any, **__: Any) -> Any:
        if mode != "rb":
            return open(self, mode)  # noqa: PTH123 (it says what is wrong)
        raw = ObjectFile(self)
        return raw if buffering == 0 else io.BufferedReader(raw, 1 << 16)

    def read_bytes(self) -> bytes:
        return self.read_with_meta()[0]

    def read_text(self, encoding: str | None = None, errors: str | None = None, **_: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def read_with_meta(self) -> tuple[bytes, Meta]:
        """Return the object and its description, from one request."""
        return self._get() if self.tree is None else self._get(if_match=self.meta().version)

    def read_range(self, offset: int, size: int, version: str) -> bytes:
        """Return some bytes of the object, which must still have this version.

        Raises:
            ObjectError: They cannot be read, or the object has changed.
        """
        if size <= 0:
            return b""
        if self.tree is not None and (recorded := self.tree.recorded(self.key, offset, size)) is not None:
            return recorded
        return self._get(range=(offset, offset + size), if_match=version)[0]

    def put(self, data: bytes | Path, *, create: bool = False) -> None:
        """Write the object, as a whole and in one request.

        Args:
            data: Its bytes, or a local file that holds them.
            create: Refuse to replace an object.

        Raises:
            ObjectError: It cannot be written; with `create`, an `ObjectExistsError` if it is there.
        """
        # In several requests, a killed process would leave hidden pieces that cost money.
        self._request("put", data, mode="create" if create else "overwrite", use_multipart=False)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._request("delete")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def replace(self, target: Any) -> Any:
        self._request("rename", target.key)
        return target


class ObjectFile(io.RawIOBase):
    """An object as a file that is read by ranged requests.

    Attributes:
        meta: The object's description when it was opened; a changed object is not read further.
    """

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self.path, self.meta, self._position = path, path.meta(), 0
        self._ahead, self._ahead_from = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.meta.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = self._at(self._position, self.meta.size)
        self._position += len(data)
        return data

    def _at(self, offset: int, size: int) -> bytes:
        size = min(size, self.meta.size - offset)
        tree, key = self.path.tree, self.path.key
        if tree is not None and (recorded := tree.recorded(key, offset, size)) is not None:
            return recorded
        first = offset - self._ahead_from
        if not 0 <= first <= first + size <= len(self._ahead):
            fetched = min(max(size, _READ_AHEAD), self.meta.size - offset)
            self._ahead = self.path.read_range(offset, fetched, self.meta.version)
            self._ahead_from, first = offset, 0
        data = self._ahead[first : first + size]
        if tree is not None and data:
            tree.record(key, offset, data)
        return data


def location(text: "str | os.PathLike[str]") -> Path:
    """Return the path that a user wrote, or the URL.

    Raises:
        InputError: It is a URL of an unknown kind.

    Example:
        >>> location("s3://bucket/val/") / "a.png"
        ObjectPath('s3://bucket/val/a.png')
        >>> location("file:///data/a%20b"), location("val/")
        (PosixPath('/data/a b'), PosixPath('val'))
    """
    if isinstance(text, ObjectPath):
        return text
    text = os.fspath(text)
    if not _URL.match(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme == "file":
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(text).path))
    if scheme not in _SCHEMES or not rest.strip("/"):
        raise InputError(f"{text} is not a known kind of URL; give s3://, gs://, az:// or http(s)://, or a path")
    path = ObjectPath(text)
    return path.at(path.key)


def local_copy(path: Path) -> Path:
    """Return the path of a local file with the content of `path`, which is `path` itself if it is local.

    Copies are made once in a process, and removed when it ends.

    Raises:
        ObjectError: The object cannot be read.
    """
    if not isinstance(path, ObjectPath):
        return path
    version = re.sub(r"\W", "", path.meta().version)
    copy = Path(_folder_of_copies().name, version, *path.parts[1:])
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        # TensorFlow's checkpoints have their values in files beside the index.
        beside = path.parent.glob(f"{path.stem}.data-*") if path.suffix == ".index" else ()
        for each in (*beside, path):
            _download(each, copy.with_name(each.name))
    return copy


def _download(path: ObjectPath, copy: Path) -> None:
    import tempfile

    with translated(path), tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as file:
        for chunk in obstore().get(path._store(), path.key).stream():
            file.write(chunk)
    Path(file.name).replace(copy)


@functools.cache
def _folder_of_copies() -> "TemporaryDirectory[str]":
    import tempfile

    return tempfile.TemporaryDirectory(prefix="ensemble-eval-")
