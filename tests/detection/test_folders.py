"""`status` and `merge` on the folders of `propose` and `detect`, and the table of a detection that is at work."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli
from drawn_boxes import Drawn, colour_ensemble, comparable, draw, outcome_of, some_proposals, stored_rows

from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.formats import DETECT
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.proposing import ProposeJob
from ensemble_eval.jobs.job import Notice
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.runner import PartialTable, run_shard
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.settings import DetectSettings, ProposeSettings
from ensemble_eval.store.store import Store

WORLD, IMAGES = 3, 6


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("drawn"), IMAGES)


@pytest.fixture(scope="module")
def propose(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> ProposeSettings:
    folder = tmp_path_factory.mktemp("boxes")
    lines = [
        f"{image},{','.join(map(str, box))}"
        for image, found in some_proposals(drawn, 1).items()
        for box in found.boxes.tolist()
    ]
    (folder / "boxes.csv").write_text("\n".join(["image,left,top,right,bottom", *lines]))
    return ProposeSettings(out=folder / "whole", sets=(), from_file=folder / "boxes.csv", save_every=0)


@pytest.fixture(scope="module")
def detect(drawn: Drawn, propose: ProposeSettings, tmp_path_factory: pytest.TempPathFactory) -> DetectSettings:
    outcome_of(ProposeJob(drawn.opened(), propose))
    return DetectSettings(
        proposals=propose.out,
        out=tmp_path_factory.mktemp("detections") / "whole",
        boxes=drawn.boxes,
        device="cpu",
        backend="torch",
        save_every=0,
    )


def _job(drawn: Drawn, settings: DetectSettings | ProposeSettings) -> DetectJob | ProposeJob:
    if isinstance(settings, ProposeSettings):
        return ProposeJob(drawn.opened(), settings)
    return DetectJob(colour_ensemble(), drawn.opened(), settings)


def _shares(drawn: Drawn, settings: DetectSettings | ProposeSettings, folder: Path) -> list[Path]:
    """A folder for each of some ranks that never met, each with a third of the images."""
    for rank in range(WORLD):
        job = _job(drawn, replace(settings, out=folder / str(rank)))
        process = Process(rank, WORLD, session="folders", role=Role.RANK)
        [opened] = job.folders
        opened.open(fresh=False)
        for event in run_shard(job, job.start(process, StopRequests()), process, StopRequests()):
            assert not isinstance(event, Notice)
    return [folder / str(rank) for rank in range(WORLD)]


def _files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.suffix != ".json"}


def test_status_tells_how_much_of_a_detection_is_done(
    cli: Cli, drawn: Drawn, detect: DetectSettings, tmp_path: Path
) -> None:
    [first, *_] = _shares(drawn, detect, tmp_path)
    told = cli("status", first)
    assert told.code == 0
    done, missing, unreadable, pace, left = told.out.splitlines()
    key = _job(drawn, detect).folders[0].store.key
    regions = sum(row["regions"] for row in stored_rows(Store(first, DETECT, key)))
    # Each region is in the row of one model and in that of all three.
    assert done == f"done        2 of {IMAGES} images, {3 * regions // 2} passes"
    assert (missing, unreadable) == ("missing     4", "unreadable  0")
    assert pace.startswith("pace ")
    assert left.startswith("time left   0:00:")
    outcome_of(_job(drawn, replace(detect, out=first)))
    assert cli("status", first).out.splitlines()[-1] == "time left   none"
    (first / "detect.json").unlink()
    last = cli("status", first).out.splitlines()[-1]
    assert last == "time left   none; run the command once more for detect.json"


def test_parts_of_a_detection_come_together_and_the_same_command_writes_the_tables(
    cli: Cli, drawn: Drawn, detect: DetectSettings, tmp_path: Path
) -> None:
    outcome_of(_job(drawn, detect))
    shares = _shares(drawn, detect, tmp_path)
    few = cli("merge", *shares[1:], "--out", tmp_path / "few")
    assert few.code == 2
    assert f"2 of {IMAGES} images are missing, so no table is written" in few.err
    merged = cli("merge", *shares, "--out", tmp_path / "out")
    assert merged.code == 0
    assert merged.out == (
        f"all detections are in {tmp_path / 'out'}; "
        f"the same `detect` with --out {tmp_path / 'out'} writes the tables\n"
    )
    outcome_of(_job(drawn, replace(detect, out=tmp_path / "out")))
    assert _files(tmp_path / "out") == _files(detect.out)
    assert "detection.csv" in _files(detect.out)
    key = _job(drawn, detect).folders[0].store.key
    rows = [comparable(stored_rows(Store(out, DETECT, key))) for out in (tmp_path / "out", detect.out)]
    assert rows[0] == rows[1]


def test_status_and_merge_of_proposals(
    cli: Cli, drawn: Drawn, propose: ProposeSettings, detect: DetectSettings, tmp_path: Path
) -> None:
    shares = _shares(drawn, propose, tmp_path)
    told = cli("status", shares[0]).out.splitlines()
    assert told[:2] == [f"done        2 of {IMAGES} images, 0 passes", "missing     4"]
    few = cli("merge", *shares[1:], "--out", tmp_path / "few")
    assert few.code == 2
    assert f"2 of {IMAGES} images are missing" in few.err
    assert cli("merge", *shares, "--out", tmp_path / "out").code == 0
    assert cli("status", tmp_path / "out").out.splitlines()[-1] == "time left   none"
    merged, whole = (StoredProposals(out, drawn.opened()) for out in (tmp_path / "out", detect.proposals))
    assert [store.key for store in merged.stores.values()] == [store.key for store in whole.stores.values()]
    for image in whole:
        assert merged[image]["file"].boxes.tolist() == whole[image]["file"].boxes.tolist()
    record = json.loads((tmp_path / "out" / "proposals" / "file.json").read_text())
    assert record["merged"] == [str(folder) for folder in shares]
    # What is detected in them is the same.
    assert _job(drawn, replace(detect, proposals=tmp_path / "out")).folders[0].store.key == (
        _job(drawn, detect).folders[0].store.key
    )


def test_the_partial_table_is_that_of_the_images_that_are_done(
    drawn: Drawn, detect: DetectSettings, tmp_path: Path
) -> None:
    outcome_of(_job(drawn, detect))
    [first, *_] = _shares(drawn, detect, tmp_path)
    job = _job(drawn, replace(detect, out=first, live=True))
    PartialTable(job, every_seconds=0).write_if_due()
    table = pd.read_csv(first / "partial.csv")
    assert table["partial"].all()
    assert table["images"].tolist() == [2, 2]
    assert "interval_low" not in table
    assert "Partial: Detection on 2 images" in (first / "partial.md").read_text()
    assert f"4 of {IMAGES} images are missing" in (first / "partial.md").read_text()
    # As a whole detection has it, with intervals.
    assert isinstance(job, DetectJob)
    expected = job.data.evaluated()
    assert table["map"].tolist() == pytest.approx([row.map_percent for row in expected], abs=1e-4)
    unannotated = DetectJob(colour_ensemble(), drawn.opened(), replace(detect, out=first, boxes=None))
    assert unannotated.partial_table() is None
