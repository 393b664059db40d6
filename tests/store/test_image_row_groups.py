"""Stores whose images are row groups of their own, as proposals and detections are kept."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble_eval.detection.formats import PROPOSE, ProposeKey
from ensemble_eval.errors import InputError
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

FORM = PROPOSE["rcnn"]


def _store(out: Path, **method: int) -> Store[ProposeKey]:
    return Store(out, FORM, ProposeKey(dataset="d", images=3, method={"setting": 1, **method}))


def _rows(*images: str) -> list[dict[str, object]]:
    """Two rows of each image, whose boxes tell whose they are."""
    return [
        {"image": image, "proposals": "rcnn", "boxes": [float(ord(image)), number], "scores": [], "reason": None}
        for image in images
        for number in (0.0, 1.0)
    ]


def _write(store: Store[ProposeKey], *images: str) -> None:
    store.write(Part(_rows(*images), list(images)))


def _boxes(store: Store[ProposeKey], image: str) -> list[list[float]]:
    return [row["boxes"].tolist() for row in store.rows(image)]


def test_the_rows_of_an_image_come_back_alone_and_once(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, "c", "a")
    # As of two processes that both did it.
    _write(store, "b", "a")
    assert store.open_deduplicated().done == {"a", "b", "c"}
    for image in "abc":
        assert _boxes(store, image) == [[float(ord(image)), 0.0], [float(ord(image)), 1.0]]
        assert {row["image"] for row in store.rows(image)} == {image}
    groups = [pq.ParquetFile(path).num_row_groups for path in store.folder.glob("part-*")]
    assert sum(groups) == 3


def test_images_that_come_after_a_reading_are_found(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, "a")
    store.open()
    assert len(store.rows("a")) == 2
    _write(store, "b")
    assert store.peek().done == {"a", "b"}
    assert _boxes(store, "b") == [[98.0, 0.0], [98.0, 1.0]]


def test_a_part_that_changes_while_it_is_in_use_is_refused(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, "a")
    store.open()
    [path] = store.folder.glob("part-*")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"has changed while it was in use \(.*\); run the command again"):
        store.rows("a")


def test_parts_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.folder.mkdir(parents=True)
    pq.write_table(pa.table({"image": ["a"]}), store.folder / f"{'0' * 32}.parquet")
    with pytest.raises(InputError, match=r"was not written by this version .* start over with `fresh=True`"):
        store.open()


def test_parts_of_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    _write(_store(tmp_path), "a")
    with pytest.raises(InputError, match=r"belongs to another run \(setting 1, now 2\); choose another `out`"):
        _store(tmp_path, setting=2).open()
    _store(tmp_path).clear()
    assert _store(tmp_path, setting=2).open().done == set()
