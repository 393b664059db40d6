"""Reads files without hanging, hashes them, and writes them so that no reader sees a half-written file.

This is where local files and objects in buckets differ.
"""

import contextlib
import csv
import errno
import gzip
import hashlib
import io
import os
import stat
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ensemble_eval.errors import InputError, refusing
from ensemble_eval.locations import ObjectPath, local_copy
from ensemble_eval.stores import ObjectExistsError

_ANOTHER_FOLDER = "free space or choose another folder"
_GZIP = b"\x1f\x8b"
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 file of at most `max_bytes`, plain or gzipped, without its byte-order mark.

    Raises:
        InputError: It is missing, unreadable, too large, or not UTF-8.
    """
    data = read_unpacked(path, max_bytes + 1)
    if len(data) > max_bytes:
        raise InputError(f"{path} is larger than {max_bytes} bytes; is it the right file?")
    return as_text(path, data)


def as_text(path: Path, data: bytes) -> str:
    """Decode the UTF-8 bytes of a file, without its byte-order mark.

    Raises:
        InputError: They are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; is it the right file?") from error


def read_unpacked(path: Path, at_most: int) -> bytes:
    """Read the first bytes of a file, decompressed if it is gzipped.

    Raises:
        InputError: It is missing, unreadable, or damaged.
    """
    damage = refusing(f"{path} is damaged", "get it again", gzip.BadGzipFile, EOFError, zlib.error)
    with refusing(f"{path} cannot be read", "check the path", OSError), damage, open_regular(path) as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        return (gzip.GzipFile(fileobj=file) if is_gzip else file).read(at_most)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format CSV with a header line, minimal quoting, and line feeds as line ends.

    Example:
        >>> csv_text(["image", "reason"], [["a.png", "empty, or cut"]])
        'image,reason\\na.png,"empty, or cut"\\n'
    """
    return "".join(map(_csv_line, (columns, *rows)))


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    # With this line end, the writer quotes a lone carriage return in a name, which would otherwise end the line.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path whose file becomes `path` when the block succeeds, and is removed when it fails.

    Args:
        path: The final path.
        durable: Flush the data to the disk before the rename, so that even a crash of the machine leaves either
            the old or the new file.

    Raises:
        InputError: The file cannot be written.
    """
    with refusing(f"{path} cannot be written", _ANOTHER_FOLDER, OSError):
        if isinstance(path, ObjectPath):
            with tempfile.NamedTemporaryFile() as file:
                yield Path(file.name)
                path.put(Path(file.name))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _publish(temporary, path, durable=durable)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, as a whole or not at all; see `atomic_path`."""
    if isinstance(path, ObjectPath):
        path.put(data)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def remove_leftovers(folder: Path, prefix: str, before: float) -> None:
    """Remove temporary files of killed processes.

    Args:
        folder: The folder of the files.
        prefix: The prefix of the names of the final files.
        before: Seconds since 1970. Files that were changed later may still be in use.
    """
    for path in () if isinstance(folder, ObjectPath) else folder.glob(f".{prefix}*.tmp"):
        # Its writer may rename it at this moment.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()


def require_writable(folder: Path) -> None:
    """Create a folder if it does not exist, and check that it can be written.

    Raises:
        InputError: It is read-only or full, or cannot be created; or the store of a bucket lets a second process
            replace an object.
    """
    if isinstance(folder, ObjectPath):
        _require_creates_once(folder / f".probe-{uuid.uuid4().hex}")
        return
    with refusing(f"{folder} takes no files", _ANOTHER_FOLDER, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\n")


def require_could_be_written(folder: Path) -> None:
    """As `require_writable`, but leave nothing behind: a missing folder is not created.

    Raises:
        InputError: The folder is read-only or full, or could not be created.
    """
    if isinstance(folder, ObjectPath):
        require_writable(folder)
        return
    with refusing(f"{folder} takes no files", _ANOTHER_FOLDER, OSError), contextlib.ExitStack() as removed_again:
        there = _nearest_existing(folder)
        if there != folder:
            made = tempfile.TemporaryDirectory(prefix=".ensemble-eval-", dir=there)
            there = Path(removed_again.enter_context(made))
        removed_again.enter_context(tempfile.TemporaryFile(dir=there)).write(b"\n")


def _require_creates_once(probe: ObjectPath) -> None:
    try:
        # Even the first request may find the object, if its answer was lost and it was sent again.
        for _ in range(2):
            probe.put(b"\n", create=True)
    except ObjectExistsError:
        return
    finally:
        # What could not be written cannot be removed either.
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    raise InputError(
        f"the store of {probe.parent} ignores If-None-Match, so processes could overwrite each other's "
        "results; choose another store for `out`"
    )


def create(path: Path, data: bytes) -> bool:
    """Write a file unless it is there, and return whether it was written."""
    if isinstance(path, ObjectPath):
        try:
            path.put(data, create=True)
        except ObjectExistsError:
            return False
        return True
    if path.exists():
        return False
    with atomic_path(path, durable=False) as temporary:
        temporary.write_bytes(data)
    return True


def read_dated(path: Path) -> tuple[bytes, float]:
    """Return the bytes of a file, and when it was changed, in seconds since 1970 by the clock of its storage."""
    if isinstance(path, ObjectPath):
        data, meta = path.read_with_meta()
        return data, meta.modified
    # Opening the file makes a network file system ask its server again.
    with open_regular(path) as file:
        return file.read(), os.fstat(file.fileno()).st_mtime


def open_regular(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading, following links; `buffering` is that of `open`.

    Raises:
        OSError: The file cannot be opened, or is a named pipe, a socket or a device. Reading one of these may
            never end, and opening one may have effects. `strerror` names the kind.
    """
    if isinstance(path, ObjectPath):
        opened: BinaryIO = path.open("rb", buffering)
        return opened
    _require_regular(path.stat().st_mode)
    # The file may have been replaced by a pipe, and opening a pipe would wait for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _require_regular(os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb", buffering)
    except OSError:
        os.close(handle)
        raise


def parquet_source(path: Path) -> Path | BinaryIO:
    """Return what pyarrow reads a table from: the path of a local file, or an open object."""
    return open_regular(path) if isinstance(path, ObjectPath) else path


def read_regular(path: Path) -> bytes:
    """Read all bytes of a file; see `open_regular` for errors."""
    if isinstance(path, ObjectPath):
        return path.read_bytes()
    with open_regular(path) as file:
        return file.read()


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with local_copy(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nearest_existing(path: Path) -> Path:
    """Return `path` or its nearest parent that exists, even if that is not a folder."""
    for each in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError):
            each.lstat()
            return each
    return path


def _publish(temporary: Path, path: Path, *, durable: bool) -> None:
    # mkstemp makes files private, but results are for all who may read the folder.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    if not durable:
        temporary.replace(path)
        return
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
