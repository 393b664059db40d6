"""Bytes within larger files, read by their offsets, so that no thread or process need know of another."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ensemble_eval.datasets.items import digest_of_ends
from ensemble_eval.files import open_regular

# Opening one for each image takes longer than reading it; a process may not have many open.
_OPEN_AT_MOST = 32


@dataclass(frozen=True, slots=True)
class Container:
    """A file as it was when it was listed what lies in it.

    Attributes:
        path: of the file.
        size: in bytes.
        changed_ns: when it was changed last, in nanoseconds since 1970.
    """

    path: Path
    size: int
    changed_ns: int

    def reopened(self) -> BinaryIO:
        """The file, open for reading.

        Raises:
            OSError: it cannot be opened, or has changed.
        """
        file = open_regular(self.path, buffering=0)
        if container_of(self.path, file) != self:
            file.close()
            raise OSError(f"{self.path} has changed since it was opened")
        return file


class _Handle:
    """An open file, which is closed when nobody uses it any more."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@lru_cache(maxsize=_OPEN_AT_MOST)
def _handle_of(container: Container) -> _Handle:
    with container.reopened() as file:
        return _Handle(os.dup(file.fileno()))


def container_of(path: Path, file: BinaryIO) -> Container:
    """A file that is open, as it is now."""
    state = os.fstat(file.fileno())
    return Container(path, state.st_size, state.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file.

    Attributes:
        container: the file.
        offset: of the first byte.
        size: how many.
    """

    container: Container
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the file cannot be read, or has changed.
        """
        return self._at(0, self.size)

    def digest(self) -> bytes:
        """As `Item.digest`, of these bytes: the same as of a file that holds nothing else."""
        try:
            return digest_of_ends(self.size, self._at)
        except OSError:
            return hashlib.sha256().digest()

    def _at(self, offset: int, size: int) -> bytes:
        # Held while it is read: the cache may let go of it meanwhile.
        handle = _handle_of(self.container)
        state = os.fstat(handle.number)
        if (state.st_size, state.st_mtime_ns) != (self.container.size, self.container.changed_ns):
            raise OSError(f"{self.container.path} has changed since it was opened")
        return os.pread(handle.number, min(size, self.size - offset), self.offset + offset)
