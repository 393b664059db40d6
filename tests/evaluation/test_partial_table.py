"""The table of a run that is at work: what is stored so far, marked as such."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from builders import run_events
from conftest import Cli
from simulated_runs import SCHEMES, decided_run, simulated_scores, stored_run

from ensemble_eval.evaluation.finishing import partial_table
from ensemble_eval.jobs import runner
from ensemble_eval.jobs.job import Job, Progress
from ensemble_eval.jobs.runner import PartialTable
from ensemble_eval.settings import RunSettings
from ensemble_eval.tables.table import Table

IMAGES, OF_IMAGES = 20, 50


@pytest.fixture
def out(tmp_path: Path) -> Path:
    stored_run(tmp_path, simulated_scores(IMAGES, members=3), of_images=OF_IMAGES)
    return tmp_path


def _columns(table: Table | None, *names: str) -> list[tuple[object, ...]]:
    assert table is not None
    positions = [[column.key for column in table.columns].index(name) for name in names]
    return [tuple(row[position] for position in positions) for row in table.rows]


def _live(out: Path, clock: Callable[[], float], every_seconds: float = 60.0) -> PartialTable:
    """The table of a run that is at work in a folder, with nothing else of the run."""
    settings = SimpleNamespace(live=True, out=out)
    job = cast("Job[Any, Any]", SimpleNamespace(settings=settings, partial_table=lambda: partial_table(out)))
    return PartialTable(job, every_seconds, clock)


def test_the_rows_are_those_of_the_images_that_are_done(out: Path) -> None:
    partial = partial_table(out)
    assert partial is not None
    assert f"errors on {IMAGES} images" in partial.title
    assert any(f"{OF_IMAGES - IMAGES} of {OF_IMAGES} images are missing" in note for note in partial.notes)
    assert any("a number of images that was fixed beforehand" in note for note in partial.notes)
    expected = stored_run(out / "whole", simulated_scores(IMAGES, members=3)).table3()
    assert _columns(partial, "models", "crops") == [(m, c) for m in (1, 3) for c in SCHEMES]
    assert _columns(partial, "top5_error", "top1_error") == list(
        zip(expected["top5_error"], expected["top1_error"], strict=True)
    )


def test_a_table_of_all_images_names_the_classes_that_have_none(out: Path) -> None:
    """While images are missing, it is not known which classes have none."""
    scores = simulated_scores(2, members=2)
    stored_run(out / "whole", scores)
    stored_run(out / "part", scores, of_images=3)
    found = {name: partial_table(out / name) for name in ("whole", "part")}
    counted = {name: [note for note in table.notes if "Counted" in note] for name, table in found.items() if table}
    labels = len({each.label for each in scores})
    classes = len(scores[0].mean_softmax[1][0])
    assert counted["whole"] == [f"Counted: labels are of {labels} classes, and are ranked among all {classes}."]
    assert counted["part"] == []
    assert found["whole"] is not None
    assert not any("fixed beforehand" in note for note in found["whole"].notes)


def test_an_image_that_stands_in_two_parts_counts_once(out: Path) -> None:
    before = partial_table(out)
    stored_run(out, simulated_scores(IMAGES, members=3), of_images=OF_IMAGES, part_images=3)
    assert partial_table(out) == before


def test_a_decided_run_has_a_partial_table_too(tmp_path: Path) -> None:
    results = stored_run(tmp_path / "full", simulated_scores(IMAGES, members=2))
    decided_run(tmp_path / "decided", results, knows_top1=False)
    partial = partial_table(tmp_path / "decided")
    assert partial is not None
    assert _columns(partial, "top5_error") == [(error,) for error in results.table3()["top5_error"]]
    assert _columns(partial, "top1_error")[-1] == (None,)
    assert "–" in partial.cells()[-1]


def test_a_folder_without_images_has_none(tmp_path: Path) -> None:
    assert partial_table(tmp_path) is None


class Clock:
    """Time that passes when it is told to, and by so much whenever it is looked at."""

    def __init__(self, look_seconds: float = 0.0) -> None:
        self.now, self.look_seconds = 0.0, look_seconds

    def __call__(self) -> float:
        self.now += self.look_seconds
        return self.now


def test_it_is_written_every_minute_and_marked_as_partial(out: Path) -> None:
    clock = Clock()
    live = _live(out, clock)
    clock.now = 59
    live.write_if_due()
    assert not (out / "partial.csv").exists()
    clock.now = 61
    live.write_if_due()
    frame = pd.read_csv(out / "partial.csv")
    assert frame["partial"].all()
    assert frame["models"].tolist() == [1, 1, 3, 3]
    text = (out / "partial.md").read_text()
    assert text.startswith(f"**Partial: Table 3: errors on {IMAGES} images**")
    assert f"{OF_IMAGES - IMAGES} of {OF_IMAGES} images are missing" in text
    (out / "partial.csv").unlink()
    clock.now = 120
    live.write_if_due()
    assert not (out / "partial.csv").exists()
    live.remove()
    assert [path.name for path in out.iterdir()] == ["predictions"]


def test_a_slow_disk_makes_it_rarer_so_that_it_takes_one_percent_at_most(out: Path) -> None:
    clock = Clock(look_seconds=3)
    live = _live(out, clock)
    clock.now = 61
    live.write_if_due()
    (out / "partial.csv").unlink()
    clock.now = 64 + 200
    live.write_if_due()
    assert not (out / "partial.csv").exists()
    clock.now = 64 + 300
    live.write_if_due()
    assert (out / "partial.csv").exists()


def test_a_run_writes_it_and_removes_it_once_the_table_is_there(
    ensemble: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_PARTIAL_EVERY_SECONDS", 0.0)
    # So short a run is over before the table has waited out its share of the time.
    monkeypatch.setattr(runner, "_MAX_TIME_SHARE", 1.0)
    settings = RunSettings(
        dataset=dataset,
        ensemble=ensemble,
        out=tmp_path,
        crops=1,
        backend="torch",
        device="cpu",
        save_every=0,
        live=True,
    )
    seen = list(_files_after_each_event(settings))
    assert any("partial.csv" in names and "partial.md" in names for names in seen)
    left = {path.name for path in tmp_path.iterdir()}
    assert {"table3.csv"} <= left
    assert not {"partial.csv", "partial.md"} & left
    without = replace(settings, out=tmp_path / "without", live=False)
    list(_files_after_each_event(without))
    assert (without.out / "table3.csv").read_bytes() == (tmp_path / "table3.csv").read_bytes()


def _files_after_each_event(settings: RunSettings) -> Iterator[set[str]]:
    """Not faster than parts are written: that is done beside the work, of which there is little here."""
    steps = 0
    with closing(run_events(settings)) as happened:
        for event in happened:
            if isinstance(event, Progress):
                steps += 1
                # The first part is begun behind the first image.
                if steps > 2:
                    _wait_for_a_part(settings.out)
                yield {path.name for path in settings.out.iterdir()}


def _wait_for_a_part(out: Path) -> None:
    until = time.monotonic() + 60
    while not any((out / "predictions").glob("part-*.parquet")):
        assert time.monotonic() < until, "no part was written"
        time.sleep(0.01)


def test_damaged_rows_under_a_whole_end_are_said_and_not_counted(cli: Cli, out: Path) -> None:
    part = max((out / "predictions").glob("part-*.parquet"), key=lambda path: path.stat().st_size)
    data = bytearray(part.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    part.write_bytes(data)
    finished = cli("status", out)
    assert finished.code == 0
    assert f"table       a part in {out} is damaged; the next start does its images again" in finished.out
    live = _live(out, time.monotonic, 0)
    live.write_if_due()
    assert not (out / "partial.csv").exists()


def test_status_shows_the_table_so_far_with_its_intervals(cli: Cli, out: Path) -> None:
    printed = cli("status", out).out
    assert f"Partial: Table 3: errors on {IMAGES} images" in printed
    partial = partial_table(out)
    assert partial is not None
    for row in partial.cells():
        assert row[4] in printed
    assert partial.notes[0] in " ".join(printed.split())
