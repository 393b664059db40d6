"""The sorted table of LevelDB, which TensorFlow's checkpoints and their indices are.

Format: https://github.com/google/leveldb/blob/main/doc/table_format.md. The file ends with a footer that points to
the index block, and the index points to the data blocks. In a block each key is stored as the number of bytes that
it shares with the key before, and the rest.
"""

from collections.abc import Iterator
from pathlib import Path

from ensemble_eval.members.imported import refusing_damage

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_NONE, _SNAPPY = 0, 1
_MAX_BLOCK_BYTES = 1 << 28
_MAX_VARINT_BYTES = 10


def is_table(path: Path) -> bool:
    """Whether a file ends as such tables do."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _FOOTER_BYTES:
            return False
        file.seek(size - len(MAGIC))
        return file.read() == MAGIC


def read(path: Path) -> dict[bytes, bytes]:
    """All entries of a table.

    Raises:
        InputError: it is damaged.
    """
    data = path.read_bytes()
    with refusing_damage(f"the weights {path}", IndexError, ValueError, OSError):
        footer = _Cursor(data[-_FOOTER_BYTES:])
        footer.varint(), footer.varint()  # an index of filters, which is not needed
        index = _block(data, footer.varint(), footer.varint())
        entries: dict[bytes, bytes] = {}
        for _, handle in _entries(index):
            cursor = _Cursor(handle)
            entries.update(_entries(_block(data, cursor.varint(), cursor.varint())))
        return entries


class _Cursor:
    """Reads on in bytes; past their end there is an error."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = 0
        for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number has no end")

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("an entry is cut off")
        self.at += count
        return self.data[self.at - count : self.at]


def _block(data: bytes, offset: int, size: int) -> bytes:
    """A block's entries, without the table of restarts at its end."""
    if offset + size >= len(data):
        raise ValueError("a block lies beyond the end")
    block, compression = data[offset : offset + size], data[offset + size]
    if compression == _SNAPPY:
        import pyarrow as pa

        length = _Cursor(block).varint()
        if length > _MAX_BLOCK_BYTES:
            raise ValueError("a block is too large")
        block = pa.decompress(block, decompressed_size=length, codec="snappy", asbytes=True)
    elif compression != _NONE:
        raise ValueError("a block is compressed in an unknown way")
    restarts = int.from_bytes(block[-4:], "little")
    if 4 * (restarts + 1) > len(block):
        raise ValueError("a block has no end")
    return block[: len(block) - 4 * (restarts + 1)]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor, key = _Cursor(block), b""
    while cursor.at < len(block):
        shared, unshared, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key):
            raise ValueError("a key shares more than there is")
        key = key[:shared] + cursor.take(unshared)
        yield key, cursor.take(length)
