"""Tables of LevelDB's format, put together here byte by byte."""

from pathlib import Path

import pyarrow as pa
import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.members.importers import sorted_table


def _entry(shared: int, rest: bytes, value: bytes) -> bytes:
    assert max(shared, len(rest), len(value)) < 0x80
    return bytes([shared, len(rest), len(value)]) + rest + value


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7])


def _table(path: Path, *, snappy: bool) -> Path:
    """Three entries in two blocks; the second key of the first block shares four bytes with the first."""
    file = b""
    handles = []
    for entries in (_entry(0, b"weights", b"1") + _entry(4, b"out", b"22"), _entry(0, b"z", b"3" * 90)):
        block = entries + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
        stored = pa.compress(block, codec="snappy", asbytes=True) if snappy else block
        handles.append(_varint(len(file)) + _varint(len(stored)))
        file += stored + bytes([snappy]) + bytes(4)
    index = b"".join(_entry(0, key, handle) for key, handle in zip((b"x", b"zz"), handles, strict=True))
    index += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    footer = _varint(0) + _varint(0) + _varint(len(file)) + _varint(len(index))
    footer = footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    path.write_bytes(file + index + bytes(5) + footer)
    return path


@pytest.mark.parametrize("snappy", [False, True])
def test_keys_that_share_their_beginning_and_compressed_blocks_are_read(tmp_path: Path, snappy: bool) -> None:
    path = _table(tmp_path / "t", snappy=snappy)
    assert sorted_table.is_table(path)
    assert sorted_table.read(path) == {b"weights": b"1", b"weigout": b"22", b"z": b"3" * 90}


def test_damage_anywhere_is_a_sentence_or_another_table(tmp_path: Path) -> None:
    path = _table(tmp_path / "t", snappy=True)
    data = path.read_bytes()
    refusals = []
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            sorted_table.read(path)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all("damaged or truncated" in refusal for refusal in refusals)


def test_a_file_is_at_least_as_long_as_the_footer(tmp_path: Path) -> None:
    for zeros, is_one in ((40, True), (39, False)):
        (tmp_path / "t").write_bytes(bytes(zeros) + sorted_table.MAGIC)
        assert sorted_table.is_table(tmp_path / "t") == is_one


def test_a_block_may_have_no_entry() -> None:
    restarts = (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    assert sorted_table._block(restarts + b"\0.", 0, 8) == b""
    with pytest.raises(ValueError, match="a block has no end"):
        sorted_table._block(restarts[4:] + b"\0.", 0, 4)
    with pytest.raises(ValueError, match="a block lies beyond the end"):
        sorted_table._block(restarts + b"\0", 0, 9)
