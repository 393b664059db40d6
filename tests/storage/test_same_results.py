"""Results are the same, byte for byte, wherever data and results lie."""

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from buckets import Bucket
from builders import PICTURE_SIZES, colour_classifier, encoded, picture, randomise, write_ensemble
from conftest import Cli
from dataset_layouts import CLASSES, LAYOUTS, Labelled, validation_images
from drawn_boxes import CLASSES as COLOURS
from drawn_boxes import colour_ensemble, draw, outcome_of

from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.detection.detecting import DetectJob
from ensemble_eval.detection.multibox import save_multibox
from ensemble_eval.detection.proposing import ProposeJob
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.models.registry import build
from ensemble_eval.reports.api import read_results
from ensemble_eval.settings import DetectSettings, ProposeSettings

_LAYOUTS = ("class_folders", "table", "tar_of_folders", "webdataset", "parquet")
# Files, and the rows of folders.
_Detected = tuple[list[bytes], list[list[str]]]


@pytest.fixture(scope="module")
def images() -> list[Labelled]:
    pictures = [picture(width, height, seed) for seed, (width, height) in enumerate(PICTURE_SIZES)]
    return validation_images([encoded(each, "JPEG") for each in pictures])


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    members = [Member(f"{seed}", predict=colour_classifier(seed), fingerprint=f"{seed}") for seed in range(2)]
    return Ensemble(members, CLASSES)


def _files(out: Path) -> tuple[bytes, pd.DataFrame]:
    table = out / "table3.csv"
    return table.read_bytes(), read_results(out).predictions()


@pytest.mark.slow
@pytest.mark.parametrize("layout", _LAYOUTS)
def test_tables_and_predictions_are_the_same_from_and_to_buckets(
    tmp_path: Path, bucket: Bucket, layout: str, images: list[Labelled], ensemble: Ensemble
) -> None:
    given = LAYOUTS[layout](tmp_path / "data", images)
    bucket.upload(tmp_path / "data")
    url = bucket.root / given.root.relative_to(tmp_path).as_posix()
    labels = None if given.labels is None else bucket.root / given.labels.relative_to(tmp_path).as_posix()
    sources = {
        "local": (given.root, given.labels),
        "bucket": (url, labels),
    }
    found = {}
    for data, (root, its_labels) in sources.items():
        dataset = open_dataset(root, CLASSES, its_labels)
        assert [each.read() for each in dataset.items] == [
            each.read() for each in open_dataset(given.root, CLASSES, given.labels).items
        ]
        for place in (tmp_path, bucket.root):
            out = place / f"{data}-{layout}"
            evaluate(ensemble, dataset, crops=1, out=out, device="cpu", backend="torch", batch_size=4)
            found[f"{data} to {type(place).__name__}"] = _files(out)
    (expected_table, expected), *others = found.values()
    assert len(found) == 4
    for table, predictions in others:
        assert table == expected_table
        pd.testing.assert_frame_equal(predictions, expected, check_exact=True)


@pytest.mark.slow
def test_a_run_with_everything_in_a_bucket_is_that_of_local_files(
    cli: Cli, tmp_path: Path, bucket: Bucket, dataset: Path, ensemble_files: Path
) -> None:
    options = ("--crops", "10", "--batch-size", 8)
    assert cli("run", dataset, "--ensemble", ensemble_files, "--out", tmp_path / "out", *options).code == 0
    data, nets = bucket.upload(dataset, "data/val"), bucket.upload(ensemble_files.parent, "nets")
    out = bucket.root / "results/one"
    done = cli("run", data, "--ensemble", nets / ensemble_files.name, "--out", out, *options)
    assert done.code == 0
    assert f"written to {out}/table3.csv" in done.out
    (table, predictions), (expected_table, expected) = _files(out), _files(tmp_path / "out")
    assert table == expected_table
    pd.testing.assert_frame_equal(predictions, expected, check_exact=True)
    assert "done        6 of 6 images" in cli("status", out).out
    compared = cli("compare", tmp_path / "out", out).out
    assert "top-5: 0 of 36 decisions differ" in compared
    merged = cli("merge", out, "--out", tmp_path / "merged")
    assert merged.code == 0
    assert (tmp_path / "merged" / "table3.csv").read_bytes() == expected_table
    report = cli("report", out, "--data", data)
    assert report.code == 0
    assert b"</html>" in (out / "report" / "report.html").read_bytes()
    # Once more, from what is there.
    again = cli("run", data, "--ensemble", nets / ensemble_files.name, "--out", out, *options)
    assert "continuing: 6 images were done before" in again.err


@pytest.fixture(scope="session")
def ensemble_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ensemble(tmp_path_factory.mktemp("ensemble"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [each for each in _LAYOUTS if each != "table"])
def test_boxes_are_the_same_from_and_to_buckets(
    tmp_path: Path, bucket: Bucket, layout: str, multibox: Path
) -> None:
    paths = sorted(draw(tmp_path / "drawn", 3).root.rglob("*.png"))
    pictures = [Labelled(f"{path.stem}.JPEG", place, path.read_bytes()) for place, path in enumerate(paths)]
    given = LAYOUTS[layout](tmp_path / "data", pictures)
    bucket.upload(tmp_path / "data")
    found: list[_Detected] = []
    for root in (given.root, bucket.root / given.root.relative_to(tmp_path).as_posix()):
        dataset = open_dataset(root, ["object"], "none")
        for place in (tmp_path, bucket.root):
            out = place / f"out-{len(found)}"
            sets = ProposeSettings(out=out, sets=("multibox",), multibox=multibox, multibox_boxes=5)
            outcome_of(ProposeJob(dataset, sets))
            settings = DetectSettings(out=out, proposals=out, device="cpu", backend="torch", batch_size=16)
            outcome_of(DetectJob(colour_ensemble((9.0,)), dataset, settings))
            found.append(_detected(out, "proposals/multibox", "detections"))
    assert found[1:] == found[:1] * 3


@pytest.mark.slow
def test_the_commands_find_the_same_boxes_with_everything_in_a_bucket(
    cli: Cli, tmp_path: Path, bucket: Bucket, multibox: Path
) -> None:
    folder = tmp_path / "drawn"
    drawn = draw(folder, 2)
    _region_classifiers(folder)
    rows = [(name, *box) for name, (boxes, _) in drawn.objects.items() for box in boxes.tolist()]
    table = pd.DataFrame(rows, columns=["image", "left", "top", "right", "bottom"])
    table.to_csv(folder / "given.csv", index=False)
    (folder / multibox.name).write_bytes(multibox.read_bytes())
    found = []
    for data, out in ((folder, tmp_path / "out"), (bucket.upload(folder), bucket.root / "out")):
        common = ("--out", out, "--boxes", data / "boxes.json")
        given = ("--multibox", data / multibox.name, "--from-file", data / "given.csv")
        sets = ("--sets", "multibox", "--multibox-boxes", 5)
        assert cli("propose", data / "data", *sets, *given, *common).code == 0
        detect = ("detect", data / "data", "--proposals", out, "--ensemble", data / "regions.toml", *common)
        assert cli(*detect, "--backend", "torch", "--batch-size", 16).code == 0
        tables = [(out / each).read_bytes() for each in ("coverage.csv", "detection.csv")]
        found.append((tables, _detected(out, "proposals/multibox", "proposals/file", "detections")))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def multibox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("multibox") / "multibox.safetensors"
    torch.manual_seed(0)
    save_multibox(path, MultiBox([[(0.2, 0.2)], [(0.5, 0.4)]], 0.05).eval(), 0.05)
    return path


def _detected(out: Path, *folders: str) -> _Detected:
    files = [(out / each).read_bytes() for each in ("detections.json", "submission.txt")]
    return files, [_rows(out, each) for each in folders]


def _region_classifiers(folder: Path) -> None:
    classes = ClassList("classes", 4, (*COLOURS, NO_OBJECT))
    members = []
    for seed, name in enumerate("ab"):
        path = folder / f"{name}.safetensors"
        members.append(Member(name, weights=path, arch="googlenet", options={"width": 0.05}))
        weights = randomise(build("googlenet", 4, width=0.05), seed).state_dict()
        save_weights(path, weights, members[-1], classes)
    (folder / "classes.txt").write_text("\n".join(classes.names or ()))
    write_manifest(folder / "regions.toml", Ensemble(members, folder / "classes.txt", "two"))


def _rows(out: Path, folder: str) -> list[str]:
    """All rows of all parts, every digit of theirs, sorted."""
    tables = [pq.read_table(io.BytesIO(path.read_bytes())) for path in (out / folder).glob("part-*.parquet")]
    return sorted(str(row) for table in tables for row in table.to_pylist())
