"""Data sets in other layouts than folders, through the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from builders import CLASS_NAMES
from conftest import Cli
from dataset_layouts import Labelled, write_parquet, write_tar


@pytest.fixture(scope="session")
def images(dataset: Path) -> list[Labelled]:
    """The six pictures of `dataset`."""
    paths = sorted(dataset.rglob("*.png"))
    return [Labelled(path.name, CLASS_NAMES.index(path.parent.name), path.read_bytes()) for path in paths]


@pytest.fixture(scope="session")
def table(dataset: Path, ensemble: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of the class folders."""
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.evaluation.api import evaluate
    from ensemble_eval.members.manifest import open_ensemble

    out, members = tmp_path_factory.mktemp("folders"), open_ensemble(ensemble)
    evaluate(members, open_dataset(dataset, members.classes), crops=1, out=out, device="cpu", backend="torch")
    return (out / "table3.csv").read_bytes()


def _shards(folder: Path, images: list[Labelled]) -> str:
    for number in range(2):
        files: dict[str, bytes] = {}
        for image in images[number::2]:
            stem = image.name.removesuffix(".png")
            files |= {f"{stem}.png": image.data, f"{stem}.cls": str(image.label).encode()}
        write_tar(folder / f"val-{number:02d}.tar", files)
    return f"{folder}/val-{{00..01}}.tar"


def test_shards_are_checked_and_run_by_their_pattern(
    cli: Cli, images: list[Labelled], ensemble: Path, tmp_path: Path, table: bytes
) -> None:
    arguments = (
        _shards(tmp_path / "data", images),
        "--ensemble",
        ensemble,
        "--crops",
        "1",
        "--out",
        tmp_path / "out",
    )
    checked = cli("check", *arguments, "--limit", "4")
    assert checked.code == 0
    assert "layout    WebDataset, 2 shards\n" in checked.out
    assert "counted   the first 4 of 6 images\n" in checked.out
    finished = cli("run", *arguments, "--device", "cpu")
    assert finished.code == 0
    assert "data set: WebDataset, 2 shards\n" in finished.err
    assert (tmp_path / "out" / "table3.csv").read_bytes() == table
    assert json.loads((tmp_path / "out" / "run.json").read_text())["layout"] == "WebDataset, 2 shards"


def test_a_part_is_said_with_the_table(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    arguments = (
        dataset,
        "--ensemble",
        ensemble,
        "--crops",
        "1",
        "--out",
        tmp_path,
        "--sample",
        "3",
        "--seed",
        "5",
    )
    finished = cli("run", *arguments, "--subset-classes", "dataset")
    assert finished.code == 0
    assert "counted: 3 of 6 images, drawn with the seed 5\n" in finished.out
    assert "counted: labels are ranked among the data set's 6 classes only\n" in finished.out
    refused = cli("run", *arguments)
    assert refused.code == 2
    assert "belongs to another run (scope counted_classes [" in refused.err


def test_images_without_labels_end_with_a_submission(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    finished = cli("run", dataset, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path, "--labels", "none")
    assert finished.code == 0
    assert (
        f"the images have no labels; what was predicted was written to {tmp_path / 'submission.txt'}"
        in finished.out
    )
    assert len((tmp_path / "submission.txt").read_text().splitlines()) == 6
    assert not (tmp_path / "table3.csv").exists()


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_ranks_share_an_archive_and_a_parquet_file(
    cli: Cli,
    images: list[Labelled],
    ensemble: Path,
    tmp_path: Path,
    table: bytes,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, as torchrun would start them at once."""
    if layout == "tar":
        path = write_tar(
            tmp_path / "a.tar", {f"{CLASS_NAMES[each.label]}/{each.name}": each.data for each in images}
        )
    else:
        path = write_parquet(tmp_path / "a.parquet", images)
    arguments = (path, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out", "--device", "cpu")
    for rank in (1, 0):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        assert cli("run", *arguments).code == 0
    assert (tmp_path / "out" / "table3.csv").read_bytes() == table
    assert set(pd.read_parquet(tmp_path / "out" / "predictions").groupby("image").size()) == {3}
