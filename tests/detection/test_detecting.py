import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import randomise
from conftest import Cli
from drawn_boxes import (
    CLASSES,
    Drawn,
    colour_ensemble,
    comparable,
    draw,
    outcome_of,
    some_proposals,
    store_proposals,
    stored_rows,
)
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.datasets.boxes import Boxes, read_boxes
from ensemble_eval.detection import region_scores
from ensemble_eval.detection.deciding import MAX_DETECTIONS, MIN_SCORES, Configuration, detections_of
from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.proposals import Proposals, StoredProposals, all_regions, sets_of, united
from ensemble_eval.detection.regions import NO_OBJECT, warp_regions
from ensemble_eval.detection.writing import Written
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.jobs.job import Finished, Notice, Opened
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.runner import run_alone
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.manifest import open_ensemble, save_weights, write_manifest
from ensemble_eval.models.registry import build
from ensemble_eval.scoring.average_precision import ILSVRC, Matching, average_precisions, overlaps
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store.in_use import in_use

NAMES = ("rcnn", "doubled", "multibox")
CHUNK_REGIONS = 16


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most images have regions for several chunks."""
    monkeypatch.setattr(region_scores, "CHUNK_REGIONS", CHUNK_REGIONS)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def proposals(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = {name: some_proposals(drawn, seed) for seed, name in enumerate(NAMES)}
    return store_proposals(tmp_path_factory.mktemp("proposals"), drawn.opened(), sets)


def _detection(drawn: Drawn, proposals: Path, out: Path, ensemble: Ensemble | None = None) -> DetectJob:
    settings = DetectSettings(
        proposals=proposals, out=out, device="cpu", backend="torch", batch_size=16, workers=1, save_every=0
    )
    return DetectJob(ensemble or colour_ensemble(), drawn.opened(), settings)


def _finished(drawn: Drawn, proposals: Path, out: Path) -> DetectJob:
    job = _detection(drawn, proposals, out)
    outcome_of(job)
    assert len(job.data.store.open().done) == len(drawn.objects)
    return job


def _write(job: DetectJob, boxes: Path | None, *draw: str) -> Written:
    settings = replace(job.settings, boxes=boxes, draw=draw)
    return outcome_of(DetectJob(colour_ensemble(), job.data.dataset, settings))


def _files(drawn: Drawn, job: DetectJob) -> dict[str, bytes]:
    """Every table and file, and the detections."""
    _write(job, drawn.boxes, "pictures/0.png")
    found = {path.name: path.read_bytes() for path in job.settings.out.iterdir() if path.is_file()}
    # The rest of the record says how long it took, and how often it began.
    found["detect.json"] = json.dumps(json.loads(found["detect.json"])["chosen"]).encode()
    return {**found, "rows": "".join(comparable(stored_rows(job.data.store))).encode()}


def _slow_nms(boxes: Boxes, scores: NDArray[np.float64]) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda each: (-scores[each], each)):
        if all(overlaps(boxes[[index]], boxes[[other]])[0, 0] <= 0.3 for other in kept):
            kept.append(index)
    return kept


def _slowly(
    image: Tensor, boxes: Boxes, predicts: Sequence[Predict], sizes: Sequence[int]
) -> list[tuple[int, Boxes, float]]:
    """One region after the other, and every class by itself: class, box and score of each detection."""
    scores = np.zeros((len(boxes), len(CLASSES)))
    for row, box in enumerate(boxes):
        regions = [warp_regions(image, box[None], size) for size in sizes]
        said = [
            predict(region).numpy()[0].astype(np.float64)
            for predict, region in zip(predicts, regions, strict=True)
        ]
        scores[row] = np.mean(said, axis=0)[:-1]
    found = []
    for index in range(len(CLASSES)):
        of_class = [row for row in range(len(boxes)) if scores[row, index] >= MIN_SCORES["softmax"]]
        kept = _slow_nms(boxes[of_class], scores[of_class, index])[:MAX_DETECTIONS]
        found += [(index, boxes[of_class[row]], float(scores[of_class[row], index])) for row in kept]
    return found


def test_detections_are_those_of_the_slow_obvious_loop(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    job = _finished(drawn, proposals, tmp_path)
    stored = StoredProposals(proposals, drawn.opened())
    assert max(len(all_regions(sets)) for sets in stored.values()) > 1.5 * CHUNK_REGIONS
    predicts = [member.predict for member in colour_ensemble().members if member.predict is not None]
    rows = stored_rows(job.data.store)
    assert len(rows) == 6 * 6
    for row in rows:
        sets = next(each for each in sets_of(NAMES) if " + ".join(each) == row["proposals"])
        image = torch.from_numpy(np.array(Image.open(drawn.root / row["image"]))).permute(2, 0, 1)
        boxes = united(stored[row["image"]], sets).boxes
        expected = _slowly(image, boxes, predicts[: row["models"]], [CROP_SIZE] * row["models"])
        found = detections_of(row)
        assert row["regions"] == len(boxes)
        assert found.classes.tolist() == [each[0] for each in expected]
        np.testing.assert_array_equal(found.boxes, np.array([each[1] for each in expected]).reshape(-1, 4))
        np.testing.assert_allclose(found.scores, [each[2] for each in expected], atol=1e-6)


def test_each_member_sees_the_regions_in_its_own_size(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes, predicts, members = [CROP_SIZE, 96], list[Predict](), list[Member]()
    for size in sizes:
        # The sum over pixels depends on their number, and so on the size.
        network = nn.Sequential(nn.AvgPool2d(32, divisor_override=40_000), nn.Flatten(), nn.LazyLinear(4)).eval()
        form = InputFormat(size=size)
        network(torch.zeros(1, 3, size, size))
        members.append(Member(f"of {size}", network=network, input=form))
        predicts.append(PredictMaker("torch", 4, torch.device("cpu"), "float32", size)(members[-1], network))
    job = _detection(drawn, proposals, tmp_path, Ensemble(members, [*CLASSES, NO_OBJECT]))
    outcome_of(job)
    stored = StoredProposals(proposals, drawn.opened())
    for row in stored_rows(job.data.store):
        sets = next(each for each in sets_of(NAMES) if " + ".join(each) == row["proposals"])
        image = torch.from_numpy(np.array(Image.open(drawn.root / row["image"]))).permute(2, 0, 1)
        boxes = united(stored[row["image"]], sets).boxes
        expected = _slowly(image, boxes, predicts[: row["models"]], sizes[: row["models"]])
        np.testing.assert_allclose(detections_of(row).scores, [each[2] for each in expected], atol=1e-5)
        np.testing.assert_array_equal(detections_of(row).classes, [each[0] for each in expected])


def test_the_table_is_that_of_the_detections(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    job = _finished(drawn, proposals, tmp_path)
    written = _write(job, drawn.boxes)
    table = pd.read_csv(tmp_path / "detection.csv")
    assert table["proposals"].tolist() == ["rcnn", "doubled", "doubled + multibox"] * 2
    assert table["models"].tolist() == [1, 1, 1, 3, 3, 3]
    objects = read_boxes(drawn.boxes, CLASSES, list(drawn.objects))
    for row, each in zip(table.to_dict("records"), written.rows, strict=True):
        stored = [
            one
            for one in stored_rows(job.data.store)
            if (one["proposals"], one["models"]) == (row["proposals"], row["models"])
        ]
        matching = Matching(3, [ILSVRC])
        for one in stored:
            matching.add(objects[one["image"]], detections_of(one))
        expected = 100 * np.nanmean(average_precisions(matching.matches(ILSVRC), ILSVRC))
        assert row["map"] == pytest.approx(expected, abs=1e-4)
        assert row["passes"] == sum(one["regions"] for one in stored) * row["models"]
        if each.interval is not None:
            assert each.interval[0] - 1e-9 <= (each.compared_to_base or 0) <= each.interval[1] + 1e-9
    assert table["map"].min() > 60
    first, base = written.rows[1], written.rows[0]
    assert first.compared_to_base == pytest.approx(first.map_percent - base.map_percent)
    results = json.loads((tmp_path / "detections.json").read_text())
    assert {each["image_id"] for each in results} <= set(range(50, 56))
    assert {each["category_id"] for each in results} <= {10, 11, 12}
    best = json.loads((tmp_path / "detect.json").read_text())["chosen"]
    lines = (tmp_path / "submission.txt").read_text().splitlines()
    assert len(lines) == len(results)
    assert all(len(line.split()) == 7 for line in lines)
    highest = table.to_dict("records")[int(table["map"].argmax())]
    assert best == {name: highest[name] for name in ("proposals", "models", "scores")}
    for name in ("table4", "table5"):
        text = (tmp_path / f"{name}.md").read_text()
        assert "measured here, on" in text
        assert "43.90%" in text or "38.02%" in text
    by_class = pd.read_csv(tmp_path / "average_precision_by_class.csv")
    assert by_class["class"].tolist() == list(CLASSES)


@pytest.mark.slow
def test_stopped_and_continued_or_in_ranks_everything_is_the_same(
    drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    expected = _files(drawn, _finished(drawn, proposals, tmp_path / "whole"))
    for stop_after in (1, 2, 3):
        with contextlib.closing(run_alone(_detection(drawn, proposals, tmp_path / "cut"))) as events:
            for _ in range(stop_after):
                next(events)
    assert _files(drawn, _finished(drawn, proposals, tmp_path / "cut")) == expected
    for rank in (2, 1, 0):
        job = _detection(drawn, proposals, tmp_path / "ranks")
        told = list(run_alone(job, Process(rank, 3, session="s", role=Role.RANK)))
        assert isinstance(told[-1], Finished) if rank == 0 else told == []
    assert _files(drawn, job) == expected


def test_one_picture_is_drawn_with_what_was_found(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    job = _finished(drawn, proposals, tmp_path)
    [path] = _write(job, drawn.boxes, "pictures/0.png").pictures
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert min(picture.shape[:2]) >= 480
    blue = (np.abs(picture - [31, 119, 180]).sum(axis=2) < 30).sum()
    assert blue > 200
    with pytest.raises(InputError, match=r"`draw` names nowhere.png, which is not among the 6 images"):
        _write(job, drawn.boxes, "nowhere.png")


def test_what_does_not_belong_together_is_refused(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", images=4)
    with pytest.raises(InputError, match="are of other images; propose on this data set first"):
        _detection(other, proposals, tmp_path)
    _finished(drawn, proposals, tmp_path / "out")
    fewer = _detection(drawn, proposals, tmp_path / "out", colour_ensemble((9.0,)))
    with pytest.raises(InputError, match=r"belongs to another run \(members .*, now "):
        outcome_of(fewer)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    images = [{"id": n, "file_name": each, "width": 9, "height": 9} for n, each in enumerate(drawn.objects)]
    nothing = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "none.json").write_text(json.dumps(nothing))
    job = _finished(drawn, proposals, tmp_path / "out")
    with pytest.raises(InputError, match="show no object that is to be found"):
        _write(job, tmp_path / "none.json")


def test_another_input_format_makes_another_job(drawn: Drawn, proposals: Path, tmp_path: Path, two: Path) -> None:
    ensemble = open_ensemble(two)
    a, *rest = ensemble.members
    darker = InputFormat(mean=(0.4, 0.4, 0.4))
    other = Member(a.name, weights=a.weights, arch=a.arch, options=a.options, input=darker)
    both = (ensemble, Ensemble([other, *rest], ensemble.classes))
    one, changed = (_detection(drawn, proposals, tmp_path, each).folders[0].store.key for each in both)
    assert one.difference(changed).startswith("inputs null, now {")
    assert "inputs" not in one.to_json()


@pytest.mark.slow
def test_failed_searches_and_remarks_are_said(cli: Cli, drawn: Drawn, tmp_path: Path, two: Path) -> None:
    sets = {"rcnn": some_proposals(drawn, 1)}
    sets["rcnn"]["pictures/2.png"] = Proposals(np.zeros((0, 4)), np.zeros(0), "it died")
    folder = store_proposals(tmp_path / "p", drawn.opened(), sets)
    arguments = ("detect", drawn.root, "--boxes", drawn.boxes, "--proposals", folder, "--device", "cpu")
    done = cli(*arguments, "--ensemble", two, "--out", tmp_path / "out", "--backend", "torch")
    assert done.code == 3
    assert "pictures/2.png has no proposals of rcnn: it died" in done.err
    assert "1 images lack proposals of a set; they count, and nothing is found in them" in done.err
    assert "members a and b have the same weights" in done.err
    accepted = cli(
        *arguments, "--ensemble", two, "--out", tmp_path / "out", "--backend", "torch", "--unreadable-ok"
    )
    assert accepted.code == 0
    assert "pictures/2.png has no proposals of rcnn: it died" in accepted.err


def test_without_annotations_there_are_detections_and_no_tables(
    drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    job = _finished(drawn, proposals, tmp_path)
    with_boxes = _write(job, drawn.boxes)
    (tmp_path / "detection.csv").unlink()
    written = _write(job, None, "pictures/1.png")
    assert written.rows == []
    assert not (tmp_path / "detection.csv").exists()
    last = Configuration(("doubled", "multibox"), 3)
    assert written.chosen == last
    assert with_boxes.chosen.models in (1, 3)
    stored = [
        row for row in stored_rows(job.data.store) if (row["proposals"], row["models"]) == (last.proposals, 3)
    ]
    results = json.loads((tmp_path / "detections.json").read_text())
    assert len(results) == sum(len(row["scores"]) for row in stored)
    # Counted from 1, for want of ids.
    assert {each["image_id"] for each in results} == {1, 2, 3, 4, 5}
    assert {each["category_id"] for each in results} <= {1, 2, 3}
    picture = np.asarray(Image.open(written.pictures[0]).convert("RGB")).astype(int)
    orange = (np.abs(picture - [255, 140, 0]).sum(axis=2) < 30).sum()
    assert orange == 0


def test_members_that_know_no_object_see_one_in_every_region(
    drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    plain = Ensemble(colour_ensemble().members, (*CLASSES, "grey"), "plain")
    job = _detection(drawn, proposals, tmp_path, plain)
    assert job.data.class_names == (*CLASSES, "grey")
    said = [event.sentence for event in run_alone(job) if isinstance(event, Notice)]
    assert 'plain has no last class "no object", so every region counts as some object' in said[0]
    knows = _finished(drawn, proposals, tmp_path / "knows")
    for row, other in zip(stored_rows(job.data.store), stored_rows(knows.data.store), strict=True):
        assert "grey" not in knows.data.class_names
        ours = row["classes"] < len(CLASSES)
        # The fourth class comes along; the others are what they were.
        np.testing.assert_array_equal(row["scores"][ours], other["scores"])
        assert len(row["boxes"].reshape(-1, 4)) == len(row["classes"])
    assert any((row["classes"] == len(CLASSES)).any() for row in stored_rows(job.data.store))


def test_a_fresh_start_leaves_no_table_of_before(drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    job = _finished(drawn, proposals, tmp_path)
    _write(job, drawn.boxes)
    again = _detection(drawn, proposals, tmp_path)
    again.settings = replace(again.settings, fresh=True)
    with pytest.raises(InputError, match="`fresh=True` could remove what another process has just written"):
        outcome_of(again, Process(0, 2, session="s", role=Role.RANK))
    with in_use(tmp_path, alone=False), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        outcome_of(again)
    assert (tmp_path / "detection.csv").exists()
    with contextlib.closing(run_alone(again)) as events:
        while not isinstance(next(events), Opened):
            pass
    assert not (tmp_path / "detection.csv").exists()
    assert again.data.store.open().done == set()


def test_images_without_any_proposal_have_no_detections(drawn: Drawn, tmp_path: Path) -> None:
    none = {image: Proposals(np.zeros((0, 4)), np.zeros(0), "it died") for image in drawn.objects}
    folder = store_proposals(tmp_path / "p", drawn.opened(), {"rcnn": none})
    job = _finished(drawn, folder, tmp_path / "out")
    written = _write(job, drawn.boxes)
    assert [row.map_percent for row in written.rows] == [0, 0]
    assert written.rows[0].coverage_percent == 0


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The manifest of two members with the same weights."""
    return _manifest(tmp_path, seeds=(0, 0))


def _manifest(folder: Path, seeds: tuple[int, int]) -> Path:
    classes = ClassList("classes", 4, (*CLASSES, NO_OBJECT))
    members = []
    for seed, name in zip(seeds, "ab", strict=True):
        path = folder / f"{name}.safetensors"
        member = Member(name, weights=path, arch="googlenet", options={"width": 0.05})
        save_weights(path, randomise(build("googlenet", 4, width=0.05), seed).state_dict(), member, classes)
        members.append(member)
    (folder / "classes.txt").write_text("\n".join(classes.names or ()))
    write_manifest(folder / "two.toml", Ensemble(members, folder / "classes.txt", "two"))
    return folder / "two.toml"


@pytest.mark.slow
def test_the_command_prints_the_table(cli: Cli, drawn: Drawn, proposals: Path, tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, seeds=(0, 1))
    arguments = ("detect", drawn.root, "--boxes", drawn.boxes, "--proposals", proposals, "--device", "cpu")
    out = ("--ensemble", manifest, "--out", tmp_path / "out", "--backend", "torch")
    done = cli(*arguments, *out, "--draw", "pictures/0.png")
    assert done.code == 0
    assert "Detection on 6 images" in done.out
    assert "drawn: " in done.out
    again = cli(*arguments, *out)
    assert again.code == 0
    assert "continuing: 6 images were done before" in again.err
    percent = cli(*arguments, *out, "--draw-above", 90)
    assert percent.code == 2
    assert "--draw-above is 90, and scores are from 0 to 1; 0.9 draws from 90% on" in percent.err
    refused = cli(*arguments, *out, "--models", 3)
    assert refused.code == 2


def test_a_supervisor_checks_members_before_it_starts_workers(
    drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    save_file({"conv1": torch.zeros(1)}, tmp_path / "w.safetensors")
    member = Member("a", arch="googlenet", weights=tmp_path / "w.safetensors")
    damaged = _detection(drawn, proposals, tmp_path, Ensemble([member], [*CLASSES, NO_OBJECT]))
    with pytest.raises(InputError, match=r"w.safetensors lacks"):
        list(damaged.check(2))
    [predict, *_] = [each.predict for each in colour_ensemble().members]
    plain = Ensemble([Member("a", predict=predict, fingerprint="a")], CLASSES)
    [notice] = _detection(drawn, proposals, tmp_path, plain).check(2)
    assert 'has no last class "no object", so every region counts as some object' in notice
    assert list(_detection(drawn, proposals, tmp_path).check(2)) == []


def test_only_the_rank_that_writes_the_tables_reads_the_annotations(
    drawn: Drawn, proposals: Path, tmp_path: Path
) -> None:
    job = _detection(drawn, proposals, tmp_path)
    job = DetectJob(colour_ensemble(), drawn.opened(), replace(job.settings, boxes=tmp_path / "none.json"))
    first, second = (Process(rank, 2, session="s", role=Role.RANK) for rank in range(2))
    assert job.start(second, StopRequests()).batch_size == 16
    with pytest.raises(InputError, match=r"none.json cannot be read"):
        job.start(first, StopRequests())
