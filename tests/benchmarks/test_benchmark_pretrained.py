import csv
from pathlib import Path

import pytest
from builders import SHARED

from benchmarks.pretrained import choose_photographs, ensemble
from ensemble_eval.members.manifest import open_ensemble, write_manifest


def collection(folder: Path, count: int = 1000) -> Path:
    """What the photographs' names look like; none of them is opened."""
    folder.mkdir()
    for index in range(count):
        (folder / f"n{index:08}_thing.JPEG").write_bytes(bytes([index % 256]))
    (folder / "README.md").touch()
    return folder


def test_every_fifth_photograph_is_copied_with_its_place_as_label(tmp_path: Path) -> None:
    choose_photographs(collection(tmp_path / "all"), tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[:2] == [
        {"file": "n00000002_thing.JPEG", "label": "2"},
        {"file": "n00000007_thing.JPEG", "label": "7"},
    ]
    assert len(rows) == 200
    copied = sorted(path.name for path in (tmp_path / "out" / "photographs").iterdir())
    assert copied == [row["file"] for row in rows]


@pytest.mark.photographs
def test_the_labels_are_those_of_the_photographs_beside_the_project(tmp_path: Path) -> None:
    labels = SHARED / "images" / "labels.csv"
    if not labels.is_file():
        pytest.skip(f"the photographs are not on this machine ({SHARED / 'images'})")
    choose_photographs(collection(tmp_path / "all"), tmp_path / "out")
    written, theirs = (
        [line.rpartition(",")[2] for line in path.read_text().splitlines()]
        for path in (tmp_path / "out" / "labels.csv", labels)
    )
    assert written == theirs


def test_an_incomplete_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 999 photographs"):
        choose_photographs(collection(tmp_path / "all", 999), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_manifest_names_three_networks(tmp_path: Path) -> None:
    weights = [tmp_path / f"{index}.pth" for index in range(3)]
    for path in weights:
        path.touch()
    write_manifest(tmp_path / "lite.toml", ensemble(weights))
    members = open_ensemble(tmp_path / "lite.toml").members
    assert [(member.name, member.options["model_name"]) for member in members] == [
        (f"lite{index}", f"efficientnet-lite{index}") for index in range(3)
    ]
    assert {member.arch for member in members} == {"python:efficientnet_lite_pytorch:EfficientNet.from_name"}
