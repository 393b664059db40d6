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
from drawn_boxes import draw

from ensemble_eval.datasets.opening import open_dataset
from ensemble_eval.detection.multibox import save_multibox
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.evaluation.api import evaluate
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.manifest import save_weights, write_manifest
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.models.registry import build
from ensemble_eval.reports.api import read_results

_LAYOUTS = ("class_folders", "table", "tar_of_folders", "webdataset", "parquet")


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
def test_proposals_and_detections_are_the_same_from_and_to_buckets(
    cli: Cli, tmp_path: Path, bucket: Bucket
) -> None:
    drawn = draw(tmp_path / "drawn")
    _region_classifiers(tmp_path / "drawn")
    torch.manual_seed(0)
    network = MultiBox([[(0.2, 0.2)], [(0.5, 0.4)]], 0.05).eval()
    save_multibox(tmp_path / "drawn" / "multibox.safetensors", network, 0.05)
    boxes = [(image, *box) for image, (of_image, _) in drawn.objects.items() for box in of_image.tolist()]
    columns = ["image", "left", "top", "right", "bottom"]
    pd.DataFrame(boxes, columns=columns).to_csv(tmp_path / "drawn" / "given.csv", index=False)
    found = {}
    for name, data in {"local": tmp_path / "drawn", "bucket": bucket.upload(tmp_path / "drawn")}.items():
        for out in (tmp_path / name, bucket.root / name):
            common = ("--out", out, "--boxes", data / "boxes.json")
            given = ("--multibox", data / "multibox.safetensors", "--from-file", data / "given.csv")
            sets = ("--sets", "multibox", "--multibox-boxes", 5)
            assert cli("propose", data / "data", *sets, *given, *common).code == 0
            detect = ("detect", data / "data", "--proposals", out, "--ensemble", data / "regions.toml", *common)
            assert cli(*detect, "--backend", "torch", "--batch-size", 16).code == 0
            names = ("coverage.csv", "detection.csv", "detections.json", "submission.txt")
            files = [(out / each).read_bytes() for each in names]
            rows = [_rows(out, each) for each in ("proposals/multibox", "proposals/file", "detections")]
            found[f"{name} to {type(out).__name__}"] = (files, rows)
    expected, *others = found.values()
    assert len(others) == 3
    for other in others:
        assert other == expected


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
