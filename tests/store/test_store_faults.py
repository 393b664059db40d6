"""What happens to parts on their way to the disk and on it."""

import errno
import itertools
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import execution, run_key
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import PartBuffer, Progress, Store

KEY = run_key()


def row(image: str) -> dict[str, Any]:
    return {
        "image": image,
        "member": "a",
        "crops": 1,
        "label": 0,
        "rank": 0,
        "top5": [0],
        "top5_probability": [1.0],
    }


def write(out: Path, *images: str) -> Path:
    """Write one part and return its path."""
    before = set((out / "predictions").glob("part-*"))
    Store(out, RUN, KEY).write(Part([row(image) for image in images], list(images), passes=len(images)))
    (path,) = set((out / "predictions").glob("part-*")) - before
    return path


def opened(out: Path) -> Progress:
    return Store(out, RUN, KEY).open()


def test_a_flipped_bit_costs_the_images_of_its_part_only(tmp_path: Path) -> None:
    path = write(tmp_path, "a", "b")
    write(tmp_path, "c")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    progress = opened(tmp_path)
    assert progress.done == {"c"}
    assert progress.damaged == (path.name,)
    # Readers of the whole folder do not stumble over it.
    assert list(pd.read_parquet(tmp_path / "predictions")["image"]) == ["c"]


def test_every_length_of_a_part_cut_short_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "a")
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        assert opened(tmp_path).done == set()


def test_a_write_that_breaks_off_in_its_midst_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(InputError, match=r"part-.* cannot be written \(No space left on device\); free space"):
        Store(tmp_path, RUN, KEY).write(Part([row("a")], ["a"]))
    assert list((tmp_path / "predictions").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    buffer = PartBuffer(Store(tmp_path, RUN, KEY), execution, save_every=-1)
    buffer.add("b", [row("b")], 1, 1)
    # It is written beside the work: who goes on learns of it when that is known.
    with pytest.raises(InputError, match="No space left on device"):
        _until_written(buffer)
    # Leaving after such an error must not run into it again.
    buffer.write()
    monkeypatch.undo()
    assert opened(tmp_path).done == {"a"}
    assert not list((tmp_path / "predictions").glob(".*"))


def _until_written(buffer: PartBuffer) -> None:
    while True:
        buffer.write_if_due()


def test_what_was_finished_after_a_part_that_failed_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, full = os.fsync, True

    def fail_once(descriptor: int) -> None:
        nonlocal full
        if full:
            full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    buffer = PartBuffer(Store(tmp_path, RUN, KEY), execution, save_every=-1)
    buffer.add("a", [row("a")], 1, 1)
    buffer.write_if_due()
    buffer.add("b", [row("b")], 1, 1)
    with pytest.raises(InputError, match="No space left on device"):
        buffer.write()
    assert opened(tmp_path).done == {"b"}


def test_a_folder_that_takes_no_files_is_refused_before_any_work() -> None:
    with pytest.raises(InputError, match="takes no files"):
        opened(Path("/proc/results"))


def test_a_run_whose_disk_fills_up_says_so_and_continues_once_there_is_space(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", dataset, "--ensemble", ensemble, "--crops", "1", "--save-every", "0", "--out", tmp_path)
    flush, flushed = os.fsync, 0

    def fill_up(descriptor: int) -> None:
        nonlocal flushed
        flushed += 1
        # Two parts, each with its folder.
        if flushed > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fill_up)
    full = cli(*command)
    assert full.code == 2
    assert full.err.splitlines()[-1].endswith(
        "cannot be written (No space left on device); free space or choose another folder"
    )
    assert not (tmp_path / "table3.csv").exists()
    assert not list((tmp_path / "predictions").glob(".*"))
    monkeypatch.setattr(os, "fsync", flush)
    continued = cli(*command)
    assert continued.code == 0
    assert "continuing: 2 images were done before" in continued.err


def test_a_run_into_a_folder_that_takes_no_files_is_refused(cli: Cli, dataset: Path, ensemble: Path) -> None:
    refused = cli("run", dataset, "--ensemble", ensemble, "--out", "/proc/results")
    assert refused.code == 2
    assert refused.err.startswith("error: /proc/results takes no files (")
    assert refused.err.count("\n") == 1


def test_another_data_set_is_refused_with_the_difference(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with pytest.raises(InputError, match=r'dataset "1234", now "5678"; images 4, now 5'):
        Store(tmp_path, RUN, replace(KEY, dataset="5678", images=5)).open()


def test_many_openers_and_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    damaged = write(tmp_path, "damaged")
    damaged.write_bytes(b"PAR1")

    def work(rank: int) -> bool:
        store = Store(tmp_path, RUN, KEY)
        seen = len(store.open().done)
        for image in range(10):
            store.write(Part([row(f"{rank}/{image}")], [f"{rank}/{image}"]))
            seen, before = len(store.peek().done), seen
            if seen <= before:
                return False
        return True

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(8)))
    assert len(opened(tmp_path).done) == 80


def test_an_image_in_two_parts_is_kept_once(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    write(tmp_path, "b", "c")
    store = Store(tmp_path, RUN, KEY)
    assert store.open().repeated == {"b"}
    store.deduplicate()
    after = store.open()
    assert after.repeated == set()
    assert after.done == {"a", "b", "c"}
    assert list(store.frame(["image"])["image"]) == ["a", "b", "c"]


def test_temporary_files_of_killed_writers_go_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, "a")
    old, young = (tmp_path / "predictions" / f".part-0123.parquet.{name}.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    store = Store(tmp_path, RUN, KEY)
    assert store.open().done == {"a"}
    store.remove_leftovers()
    # The young one may be in work, by another run in the same folder.
    assert (old.exists(), young.exists()) == (False, True)


def test_parts_that_another_run_writes_meanwhile_do_not_stop_the_end(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    write(tmp_path, "b", "c")
    store = Store(tmp_path, RUN, KEY)
    assert store.open().repeated == {"b"}
    write(tmp_path, "d")
    store.deduplicate()
    assert store.open().done == {"a", "b", "c", "d"}
    # Nor do they come into tables that were checked without them.
    write(tmp_path, "d", "a")
    assert list(store.frame(["image"])["image"]) == ["a", "b", "c", "d"]
    assert store.open().repeated
    for path in (tmp_path / "predictions").glob("part-*"):
        path.unlink()
    store.deduplicate()
    with pytest.raises(EnsembleEvalError, match="another process has changed"):
        store.frame(["image"])


def test_what_a_start_could_not_read_is_told_from_what_an_earlier_one_could_not(tmp_path: Path) -> None:
    """The launcher waits for images that are tried again."""
    Store(tmp_path, RUN, KEY).write(Part(unreadable={"a": "away", "b": "away"}))
    store = Store(tmp_path, RUN, KEY)
    assert store.open().unreadable.keys() == {"a", "b"}
    assert store.unreadable_since_opening() == set()
    Store(tmp_path, RUN, KEY).write(Part(unreadable={"a": "still away"}))
    store.peek()
    assert store.unreadable_since_opening() == {"a"}


@pytest.mark.slow
@given(st.data())
def test_runs_that_clean_up_at_the_same_time_lose_no_image(data: st.DataObject) -> None:
    """Each with what it saw of the folder, which may be old; in the end each image is there once."""
    with tempfile.TemporaryDirectory() as name:
        out, clock = Path(name), itertools.count()
        for _ in range(data.draw(st.integers(2, 5))):
            images = sorted(data.draw(st.sets(st.sampled_from("abcd"), min_size=1)))
            part = Part([row(image) for image in images], images)
            Store(out, RUN, KEY, clock=lambda: next(clock)).write(part)
        expected = opened(out).done
        runs = [Store(out, RUN, KEY) for _ in range(3)]
        for _ in range(6):
            run = data.draw(st.sampled_from(runs))
            if data.draw(st.booleans()):
                run.open()
            else:
                run.deduplicate()
            assert opened(out).done == expected
        last = Store(out, RUN, KEY)
        while last.open().repeated:
            last.deduplicate()
        assert list(last.frame(["image"])["image"]) == sorted(expected)
