"""Bytes within larger files, read by their offsets, so that no thread or process need know of another."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ensemble_eval.datasets.items import END_BYTES, digest_of_ends
from ensemble_eval.files import open_regular


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
        with self.container.reopened() as file:
            return os.pread(file.fileno(), self.size, self.offset)

    def digest(self) -> bytes:
        """As `Item.digest`, of these bytes: the same as of a file that holds nothing else."""
        try:
            with self.container.reopened() as file:
                first = os.pread(file.fileno(), min(END_BYTES, self.size), self.offset)
                at = max(self.size - END_BYTES, len(first))
                last = os.pread(file.fileno(), max(self.size - at, 0), self.offset + at)
        except OSError:
            return hashlib.sha256().digest()
        return digest_of_ends(self.size, first, last)
