import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from ensemble_eval.detection.parts import ImageParts, RowBuffer
from ensemble_eval.errors import InputError

SCHEMA = pa.schema([("image", pa.string()), ("value", pa.int32())])


def _parts(folder: Path, **key: int) -> ImageParts:
    return ImageParts(folder, {"setting": 1, **key}, SCHEMA)


def _rows(*images: str) -> list[dict[str, object]]:
    return [{"image": image, "value": number} for image in images for number in range(2)]


def test_rows_come_back_sorted_by_unit_and_each_unit_once(tmp_path: Path) -> None:
    parts = _parts(tmp_path / "parts")
    assert parts.open() == set()
    parts.write(_rows("c", "a"))
    parts.write([])
    # As of two processes that both did it.
    parts.write(_rows("b", "a"))
    assert _parts(tmp_path / "parts").open() == {"a", "b", "c"}
    assert [row for image in "abc" for row in parts.rows(image)] == _rows("a", "b", "c")
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 2


def test_a_part_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    parts = _parts(tmp_path)
    parts.write(_rows("a"))
    parts.write(_rows("b"))
    first = sorted(tmp_path.glob("*.parquet"))[0]
    lost = {row["image"] for row in pa.parquet.read_table(first).to_pylist()}
    first.write_bytes(first.read_bytes()[:-20])
    assert parts.open() == {"a", "b"} - lost
    parts.write(_rows(*lost))
    assert [row for image in "ab" for row in parts.rows(image)] == _rows("a", "b")


def test_a_buffer_writes_what_is_many_and_keeps_what_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _parts(tmp_path)
    buffer = RowBuffer(parts, 2, 30.0, clock=lambda: 0.0)
    buffer.add(_rows("a"))
    assert parts.open() == set()
    with monkeypatch.context() as patch:
        patch.setattr(parts, "write", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            buffer.add(_rows("b"))
    buffer.write()
    assert parts.open() == {"a", "b"}
    buffer.write()
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_part_that_changes_while_it_is_in_use_is_refused(tmp_path: Path) -> None:
    parts = _parts(tmp_path)
    parts.write(_rows("a"))
    assert parts.images() == {"a"}
    [path] = tmp_path.glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"has changed while it was in use \(.*\); run the command again"):
        parts.rows("a")


def test_a_part_with_several_images_in_a_row_group_is_refused(tmp_path: Path) -> None:
    parts = _parts(tmp_path / "parts")
    parts.write(_rows("a", "b"))
    [path] = (tmp_path / "parts").glob("*.parquet")
    buffer = pa.BufferOutputStream()
    pa.parquet.write_table(pa.parquet.read_table(path), buffer)
    data = buffer.getvalue().to_pybytes()
    path.unlink()
    path.with_name(f"{hashlib.sha256(data).hexdigest()[:32]}.parquet").write_bytes(data)
    with pytest.raises(InputError, match="was written by an earlier version of ensemble-eval; start over with"):
        _parts(tmp_path / "parts").open()


def test_a_buffer_writes_what_is_old(tmp_path: Path) -> None:
    seconds = [0.0]
    buffer = RowBuffer(_parts(tmp_path), 100, 30.0, clock=lambda: seconds[0])
    buffer.add(_rows("a"))
    seconds[0] = 30.1
    buffer.add(_rows("b"))
    assert _parts(tmp_path).open() == {"a", "b"}


def _interrupted(_rows: object) -> None:
    raise KeyboardInterrupt


def test_parts_of_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    _parts(tmp_path).write(_rows("a"))
    with pytest.raises(InputError, match=r"other settings \(setting was 1 and is now 2\); choose another `out`"):
        _parts(tmp_path, setting=2).open()
    other = pa.schema([("image", pa.string()), ("value", pa.float32())])
    with pytest.raises(InputError, match=r"other settings \(other columns\)"):
        ImageParts(tmp_path, {"setting": 1}, other).open()
    _parts(tmp_path).clear()
    assert _parts(tmp_path, setting=2).open() == set()
