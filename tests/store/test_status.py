import time
from dataclasses import replace
from pathlib import Path

import pytest
from builders import run_key
from conftest import Cli
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.store.parts import Part
from ensemble_eval.store.status import read_status
from ensemble_eval.store.store import Store

KEY = run_key(images=100)
NIGHT = 30_000.0


def part(images: range, seconds: float, unreadable: tuple[str, ...] = ()) -> Part:
    reasons = dict.fromkeys(unreadable, "damaged")
    return Part([], [f"{image:03}" for image in images], reasons, passes=10 * len(images), seconds=seconds)


def write(out: Path, now: float, written: Part) -> None:
    Store(out, RUN, KEY, clock=lambda: now).write(written)


def test_counts_and_pace_come_from_the_parts(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=20.0))
    write(tmp_path, 1000.0, part(range(10, 20), seconds=20.0))
    write(tmp_path, 1020.0, part(range(20, 35), 20.0, unreadable=("099",)))
    status = read_status(tmp_path, RUN)
    assert (status.done, status.unreadable, status.missing, status.passes) == (35, 1, 64, 350)
    assert status.newest == 1020
    assert status.images_per_second == pytest.approx(36 / 40)
    assert status.seconds_left == pytest.approx(64 * 40 / 36)


def test_the_pace_is_that_of_the_last_ten_minutes(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=100.0))
    write(tmp_path, 1600.0, part(range(10, 40), seconds=300.0))
    assert read_status(tmp_path, RUN).images_per_second == pytest.approx(40 / 700)
    write(tmp_path, 1601.0, part(range(40, 41), seconds=1.0))
    assert read_status(tmp_path, RUN).images_per_second == pytest.approx(31 / 301)


def test_a_night_in_the_queue_does_not_slow_the_pace(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=10.0))
    write(tmp_path, NIGHT, part(range(10, 20), seconds=5.0))
    assert read_status(tmp_path, RUN).images_per_second == pytest.approx(2.0)


def test_says_when_the_run_seems_to_stand_still(tmp_path: Path, cli: Cli) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=10.0))
    done = cli("status", tmp_path)
    assert done.code == 0
    assert "done        10 of 100 images, 100 passes" in done.out
    assert "0:01:30 once it runs; nothing came for" in done.out


def test_says_all_of_a_run_that_is_under_way(tmp_path: Path, cli: Cli) -> None:
    write(tmp_path, time.time(), part(range(49), seconds=10.0, unreadable=("099",)))
    done = cli("status", tmp_path)
    assert done.code == 0
    # The parts of these tests hold no rows, so a line about the table follows.
    assert done.out.splitlines()[:-1] == [
        "done        49 of 100 images, 490 passes",
        "missing     50",
        "unreadable  1",
        "pace        5.00 images/s",
        "time left   0:00:10",
    ]


@pytest.mark.parametrize(
    ("labelled", "last_file"), [(True, "table3.csv"), (False, "submission.txt")], ids=["labels", "no labels"]
)
def test_tells_whether_a_run_without_missing_images_has_its_last_file(
    tmp_path: Path, cli: Cli, labelled: bool, last_file: str
) -> None:
    key = replace(KEY, scope=Scope(labelled=labelled))
    Store(tmp_path, RUN, key).write(part(range(100), seconds=10.0))
    lines = cli("status", tmp_path).out.splitlines()
    assert f"time left   none; run the command once more for {last_file}" in lines
    (tmp_path / last_file).touch()
    assert "time left   none" in cli("status", tmp_path).out.splitlines()


def test_says_what_is_counted_where_that_is_not_the_usual(tmp_path: Path, cli: Cli) -> None:
    stored_run(tmp_path, simulated_scores(20, 2), scope=Scope(part="the first 20 of 90 images"))
    assert "Counted: the first 20 of 90 images." in cli("status", tmp_path).out.splitlines()


def test_an_image_in_two_parts_counts_once(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=10.0))
    write(tmp_path, 1000.0, part(range(5, 15), seconds=10.0))
    assert read_status(tmp_path, RUN).done == 15


def test_a_part_that_a_merge_left_without_images_does_not_make_the_pace(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=5.0))
    write(tmp_path, NIGHT, part(range(0), seconds=5.0))
    status = read_status(tmp_path, RUN)
    assert status.images_per_second == pytest.approx(2.0)
    assert status.seconds_left == pytest.approx(45.0)


def test_parts_of_two_runs_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 1000.0, part(range(10), seconds=10.0))
    Store(tmp_path, RUN, replace(KEY, images=99)).write(part(range(10), seconds=10.0))
    with pytest.raises(InputError, match="holds parts of several runs"):
        read_status(tmp_path, RUN)


@pytest.mark.parametrize("damage", ["cut short", "end overwritten"])
def test_a_damaged_part_is_told_and_the_others_counted(tmp_path: Path, cli: Cli, damage: str) -> None:
    write(tmp_path, time.time(), part(range(10), seconds=10.0))
    [path] = (tmp_path / "predictions").iterdir()
    data = path.read_bytes()
    write(tmp_path, time.time(), part(range(10, 30), seconds=10.0))
    path.write_bytes(data[:-50] if damage == "cut short" else data[:-300] + b"\xff" * 292 + data[-8:])
    done = cli("status", tmp_path)
    assert done.code == 0
    assert done.out.splitlines()[:4] == [
        "done        20 of 100 images, 200 passes",
        "missing     80",
        "unreadable  0",
        "damaged     1 parts; the next start does their images again",
    ]
    # Nor does it end a run that only looks how far the others are.
    assert len(Store(tmp_path, RUN, KEY).peek().done) == 20


def test_nothing_but_damaged_parts_is_told_as_that(tmp_path: Path) -> None:
    write(tmp_path, time.time(), part(range(10), seconds=10.0))
    [path] = (tmp_path / "predictions").iterdir()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"all 1 parts in .* are damaged; the next start does their images again"):
        read_status(tmp_path, RUN)


def test_a_folder_without_parts_is_refused(tmp_path: Path, cli: Cli) -> None:
    done = cli("status", tmp_path)
    assert done.code == 2
    assert done.err == (
        f"error: {tmp_path} holds no results yet; a run writes its first part within --save-every seconds\n"
    )


def test_a_folder_of_an_earlier_version_is_named_as_that(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "detections"
    folder.mkdir()
    (folder / "5665d1bc409e468fa3c27afb0af6dd76.parquet").write_bytes(b"of an earlier version")
    done = cli("status", tmp_path)
    assert done.code == 2
    assert done.err == (
        f"error: {folder} holds Parquet files that this version of ensemble-eval did not write, such as those of "
        "an earlier version; start the job again in another folder, or with --fresh\n"
    )
