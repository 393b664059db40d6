"""The table of a run that is at work: what is stored so far, marked as such."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli
from simulated_runs import SCHEMES, decided_run, simulated_scores, stored_run

from ensemble_eval.evaluation import events
from ensemble_eval.evaluation.job import evaluate
from ensemble_eval.launch.place import Place
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.results import partial_table
from ensemble_eval.results.partial_table import LiveTable, read_partial_table
from ensemble_eval.settings import RunSettings

IMAGES, OF_IMAGES = 20, 50


@pytest.fixture
def out(tmp_path: Path) -> Path:
    stored_run(tmp_path, simulated_scores(IMAGES, members=3), of_images=OF_IMAGES)
    return tmp_path


def test_the_rows_are_those_of_the_images_that_are_done(out: Path) -> None:
    partial = read_partial_table(out)
    assert partial is not None
    assert (partial.images, partial.missing, partial.of_images) == (IMAGES, OF_IMAGES - IMAGES, OF_IMAGES)
    whole = stored_run(out / "whole", simulated_scores(IMAGES, members=3))
    expected = whole.table3()
    assert [(row.models, row.crops) for row in partial.rows] == [(m, c) for m in (1, 3) for c in SCHEMES]
    assert [row.top5_wrong for row in partial.rows] == expected["top5_wrong"].tolist()
    assert [row.top1_wrong for row in partial.rows] == expected["top1_wrong"].tolist()


def test_an_image_that_stands_in_two_parts_counts_once(out: Path) -> None:
    before = read_partial_table(out)
    stored_run(out, simulated_scores(IMAGES, members=3), of_images=OF_IMAGES, part_images=3)
    assert read_partial_table(out) == before


def test_a_decided_run_has_a_partial_table_too(tmp_path: Path) -> None:
    results = stored_run(tmp_path / "full", simulated_scores(IMAGES, members=2))
    decided_run(tmp_path / "decided", results, knows_top1=False)
    partial = read_partial_table(tmp_path / "decided")
    assert partial is not None
    assert [row.top5_wrong for row in partial.rows] == results.table3()["top5_wrong"].tolist()
    assert partial.rows[-1].top1_wrong is None
    assert "–" in partial.table().cells()[-1]


def test_a_folder_without_images_has_none(tmp_path: Path) -> None:
    assert read_partial_table(tmp_path) is None


class Clock:
    """Time that passes when it is told to, and by so much whenever it is looked at."""

    def __init__(self, look_seconds: float = 0.0) -> None:
        self.now, self.look_seconds = 0.0, look_seconds

    def __call__(self) -> float:
        self.now += self.look_seconds
        return self.now


def test_it_is_written_every_minute_and_marked_as_partial(out: Path) -> None:
    clock = Clock()
    live = LiveTable(out, clock=clock)
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
    live = LiveTable(out, clock=clock)
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
    monkeypatch.setattr(partial_table, "EVERY_SECONDS", 0.0)
    # So short a run is over before the table has waited out its share of the time.
    monkeypatch.setattr(partial_table, "_MOST_SHARE", 1.0)
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
    with closing(evaluate(settings, Place(), StopRequests(), [])) as happened:
        for event in happened:
            if isinstance(event, events.Step):
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
    live = LiveTable(out, every_seconds=0)
    live.write_if_due()
    assert not (out / "partial.csv").exists()


def test_status_shows_the_table_so_far_with_its_intervals(cli: Cli, out: Path) -> None:
    printed = cli("status", out).out
    assert f"Partial: Table 3: errors on {IMAGES} images" in printed
    partial = read_partial_table(out)
    assert partial is not None
    for row in partial.table().cells():
        assert row[4] in printed
    assert f"One model is {partial.one_model_member}" in printed
