import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
from builders import execution, member_key, run_key

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import RUN, RunKey
from ensemble_eval.store.parts import Part, read_parts
from ensemble_eval.store.store import PartBuffer, Progress, Store, summarise

KEY = run_key(scores=True, crops=10, dataset="d1")
COLUMNS = ["image", "member", "crops", "label", "rank", "top5", "top5_probability", "scores"]


def row(image: str, rank: int = 0) -> dict[str, Any]:
    return {
        "image": image,
        "member": "a",
        "crops": 10,
        "label": 1,
        "rank": rank,
        "top5": [1, 0],
        "top5_probability": [0.75, 0.25],
        "scores": [0.25, 0.75],
    }


def part(images: Iterable[str], **fields: Any) -> Part:
    names = list(images)
    return Part(rows=[row(name) for name in names], images=names, passes=7 * len(names), seconds=1.5, **fields)


def parts_of(out: Path) -> list[Path]:
    return sorted((out / RUN.folder).glob("part-*.parquet"))


@pytest.fixture
def store(tmp_path: Path) -> Store[RunKey]:
    return Store(tmp_path, RUN, KEY)


def test_a_store_that_nobody_has_read_accounts_for_nothing(store: Store[RunKey]) -> None:
    assert store.progress == summarise({}) == Progress(frozenset(), {}, 0, 0, 0, (), frozenset(), ())


def test_what_was_written_is_found_again(store: Store[RunKey]) -> None:
    store.write(part(["b", "a"]))
    store.write(part(["c"], unreadable={"d": "damaged"}))
    progress = store.open()
    assert progress.done == {"a", "b", "c"}
    assert progress.unreadable == {"d": "damaged"}
    assert (progress.passes, progress.seconds, progress.damaged) == (21, 3.0, ())


def test_pandas_reads_the_folder_in_one_line(store: Store[RunKey], tmp_path: Path) -> None:
    store.write(part(["b"]))
    store.write(part(["a"]))
    frame = pd.read_parquet(tmp_path / "predictions")
    assert list(frame.columns) == COLUMNS
    assert sorted(frame["image"]) == ["a", "b"]
    assert list(frame["scores"][0]) == [0.25, 0.75]


def test_without_scores_there_is_no_such_column(tmp_path: Path) -> None:
    store = Store(tmp_path, RUN, replace(KEY, scores=False))
    store.write(Part(rows=[{k: v for k, v in row("a").items() if k != "scores"}], images=["a"]))
    assert list(pd.read_parquet(tmp_path / "predictions").columns) == COLUMNS[:-1]


def test_predictions_come_sorted_by_image_in_their_columns(store: Store[RunKey]) -> None:
    store.write(part(["c", "a"]))
    store.write(part(["b"]))
    assert store.open().done == {"a", "b", "c"}
    frame = store.frame(["image", "rank"])
    assert frame.to_dict("list") == {"image": ["a", "b", "c"], "rank": [0, 0, 0]}


def test_rows_of_an_image_keep_their_order_and_come_in_that_of_the_parts(store: Store[RunKey]) -> None:
    for images in (["b", "a"], ["d", "c"]):
        rows = [row(image, rank) for rank in range(40) for image in images]
        store.write(Part(rows=rows, images=images))
    store.open()
    found = store.frame(["image", "rank"])
    expected = [(image, rank) for image in "abcd" for rank in range(40)]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_rows_of_an_image_in_several_parts_come_once_from_the_first_that_was_written(tmp_path: Path) -> None:
    ticks = itertools.count()
    store = Store(tmp_path, RUN, KEY, clock=lambda: next(ticks))
    for rank in range(8):
        store.write(Part(rows=[row("a", rank), row(f"b{rank}", 9)], images=["a", f"b{rank}"]))
    store.open()
    found = store.frame(["image", "rank"]).to_dict("list")
    assert found == {"image": ["a", *(f"b{rank}" for rank in range(8))], "rank": [0, *[9] * 8]}


def test_an_empty_store_has_no_predictions(store: Store[RunKey]) -> None:
    assert store.open().done == frozenset()
    assert store.frame(["image", "rank"]).empty


def test_an_image_that_was_unreadable_once_counts_when_it_was_read_later(store: Store[RunKey]) -> None:
    store.write(part([], unreadable={"a": "cannot be read"}))
    store.write(part(["a"]))
    progress = store.open()
    assert progress.done == {"a"}
    assert progress.unreadable == {}


@pytest.mark.parametrize("position", [0, 4, 100, -1, -5])
def test_one_changed_bit_is_noticed_and_only_that_part_is_set_aside(
    store: Store[RunKey], tmp_path: Path, position: int
) -> None:
    store.write(part(["a"]))
    store.write(part(["b"]))
    victim = parts_of(tmp_path)[0]
    data = bytearray(victim.read_bytes())
    data[position] ^= 1
    victim.write_bytes(data)
    progress = store.open()
    assert progress.damaged == (victim.name,)
    assert len(progress.done) == 1
    # Out of pandas' sight too, but not lost.
    assert set(pd.read_parquet(tmp_path / "predictions")["image"]) == progress.done
    assert victim.with_name(f"_damaged-{victim.name}").read_bytes() == bytes(data)


def test_a_part_that_the_disk_does_not_give_is_refused_with_its_reason_or_passed_over(
    store: Store[RunKey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / RUN.folder / f"part-{'0' * 32}.parquet"
    part.mkdir(parents=True)
    with pytest.raises(InputError, match=r"part-0+\.parquet cannot be read \(Is a directory\); repair it"):
        store.open()
    assert read_parts(tmp_path, RUN, whole=False).unread == {part: "Is a directory"}
    part.rmdir()

    def broken(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store.write(Part(images=["a.png"]))
    monkeypatch.setattr(pyarrow.parquet, "read_schema", broken)
    found = read_parts(tmp_path, RUN, whole=False)
    assert list(found.unread.values()) == [os.strerror(errno.EIO)]
    assert found.damaged == ()


def test_a_part_cut_short_is_noticed(store: Store[RunKey], tmp_path: Path) -> None:
    store.write(part(["a"]))
    [victim] = parts_of(tmp_path)
    victim.write_bytes(victim.read_bytes()[:-10])
    assert store.open().damaged == (victim.name,)


def test_another_run_is_refused_with_the_difference(store: Store[RunKey], tmp_path: Path) -> None:
    store.write(part(["a"]))
    other = Store(tmp_path, RUN, replace(KEY, dataset="d2", members=(member_key("b"), member_key("a"))))
    with pytest.raises(InputError) as refusal:
        other.open()
    assert str(refusal.value) == (
        f'{tmp_path} belongs to another run (dataset "d1", now "d2"; '
        'member b null, now {"weights": "w1", "arch": "googlenet", "options": {}, "in…; '
        'members ["a"], now ["b", "a"]); '
        "choose another `out`, or run with `fresh=True` to start over there"
    )


def test_an_image_in_two_parts_is_named(store: Store[RunKey]) -> None:
    store.write(part(["a", "b"]))
    store.write(part(["b", "c"]))
    assert store.open().repeated == {"b"}


def test_a_foreign_parquet_file_of_a_fitting_name_is_refused(store: Store[RunKey], tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    pd.DataFrame({"x": [1]}).to_parquet(folder / "x")
    data = (folder / "x").read_bytes()
    (folder / f"part-{hashlib.sha256(data).hexdigest()[:32]}.parquet").write_bytes(data)
    with pytest.raises(InputError, match="was not written by this tool, or is damaged"):
        store.open()


def test_a_strangers_parquet_file_is_refused_and_left_alone(store: Store[RunKey], tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    stranger = tmp_path / "predictions" / "part-00000.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(stranger)
    with pytest.raises(InputError, match=r"part-00000\.parquet was not written by this version of"):
        store.open()
    store.clear()
    assert stranger.exists()


def test_clearing_removes_the_parts(store: Store[RunKey], tmp_path: Path) -> None:
    store.write(part(["a"]))
    store.clear()
    assert parts_of(tmp_path) == []


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_buffer_writes_when_a_part_is_old_or_large_and_counts_its_seconds(
    store: Store[RunKey], tmp_path: Path
) -> None:
    clock = _Clock()
    buffer = PartBuffer(store, execution, clock)
    buffer.add("a", [row("a")], passes=3, all_passes=4)
    clock.now += 30
    buffer.write_if_due()
    assert parts_of(tmp_path) == []
    clock.now += 1
    buffer.write_if_due()
    for index in range(256):
        buffer.add_unreadable(f"{index:03}", "gone")
        buffer.write_if_due()
    # Nothing is left over; this waits for what is being written.
    buffer.write()
    assert len(parts_of(tmp_path)) == 2
    progress = store.open()
    assert len(progress.unreadable) == 256
    assert (progress.passes, progress.seconds) == (3, 31.0)


class _SlowStore(Store[RunKey]):
    """Writes when it is let."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, RUN, KEY)
        self.begun: list[list[str]] = []
        self.may_write = threading.Semaphore(0)

    def write(self, part: Part) -> None:
        self.begun.append(part.images)
        assert self.may_write.acquire(timeout=60)
        super().write(part)


def test_images_are_taken_while_a_part_is_written_and_the_next_part_waits_for_it(tmp_path: Path) -> None:
    store = _SlowStore(tmp_path)
    buffer = PartBuffer(store, execution, save_every=-1)
    buffer.add("a", [row("a")], passes=1, all_passes=1)
    buffer.write_if_due()
    buffer.add("b", [row("b")], passes=1, all_passes=1)
    assert parts_of(tmp_path) == []
    # The next is due, and would wait for ever but for this.
    letting_go = threading.Timer(0.05, store.may_write.release)
    letting_go.start()
    buffer.write_if_due()
    assert len(parts_of(tmp_path)) == 1
    store.may_write.release()
    buffer.write()
    assert store.begun == [["a"], ["b"]]
    assert store.open().done == {"a", "b"}
    letting_go.join()


def test_an_empty_buffer_writes_nothing(store: Store[RunKey], tmp_path: Path) -> None:
    PartBuffer(store, execution).write()
    assert parts_of(tmp_path) == []


def test_what_ran_the_images_is_kept_by_part_and_told_once_in_order(tmp_path: Path) -> None:
    """A run may go on on another device, and with smaller batches where memory ran out."""
    ticks = itertools.count(100.0)
    store = Store(tmp_path, RUN, KEY, clock=lambda: next(ticks))
    running = [execution(16), execution(16), execution(8), execution(8), execution(16, "cuda:0"), execution(8)]
    left = iter(running)
    for images in (["a", "b", "c"], ["d"], ["e", "f"]):
        buffer = PartBuffer(store, lambda: next(left))
        for image in images:
            buffer.add(image, [row(image)], passes=1, all_passes=1)
        buffer.write()
    assert store.open().executions == (execution(16), execution(8), execution(16, "cuda:0"))
