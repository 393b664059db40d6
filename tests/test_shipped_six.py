"""The networks of detection in the repository: what manifest, records and recipes say, and that they work."""

import csv
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli

from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.writing import draw_dataset
from ensemble_eval.detection.multibox import load_multibox
from ensemble_eval.detection.regions import NO_OBJECT
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.training.config import read_recipe

PROJECT = Path(__file__).parents[1]
MANIFESTS = PROJECT / "manifests"
FOLDER = PROJECT / "checkpoints" / "detection"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def shipped() -> Ensemble:
    return open_ensemble(MANIFESTS / "detection.toml")


def test_the_manifest_names_six_small_files_by_their_hash(shipped: Ensemble) -> None:
    assert [member.name for member in shipped.members] == list("abcdef")
    assert shipped.classes.names == (*CLASS_NAMES, NO_OBJECT)
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 12 * MEGABYTE
    hashes = [hashlib.sha256(member.weights_file.read_bytes()).hexdigest() for member in shipped.members]
    assert [member.sha256 for member in shipped.members] == hashes
    assert len(set(hashes)) == 6


@pytest.mark.parametrize("recipe_name", ["train-detection", "train-multibox"])
def test_each_was_trained_by_the_recipe_that_is_shipped_with_it(recipe_name: str) -> None:
    recipe = read_recipe(MANIFESTS / f"{recipe_name}.toml")
    for plan in recipe.members:
        record = json.loads((FOLDER / f"{plan.name}.json").read_text())
        weights = (FOLDER / f"{plan.name}.safetensors").read_bytes()
        assert record["sha256"] == hashlib.sha256(weights).hexdigest()
        decides = record["decides_the_weights"]
        assert decides.items() >= recipe.what_decides_the_weights(plan).items()
        assert recipe.network.initial is not None
        initial = recipe.network.initial
        begun = initial if initial.is_file() else initial / f"{plan.name}.safetensors"
        assert decides["initial weights"] == hashlib.sha256(begun.read_bytes()).hexdigest()
        with (FOLDER / f"{plan.name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == recipe.schedule.epochs
        assert float(rows[-1]["val_top5_error"]) == pytest.approx(record["last_epoch"]["val_top5_error"], abs=1e-3)


@pytest.mark.slow
def test_multibox_proposes_and_the_six_find_objects(cli: Cli, tmp_path: Path) -> None:
    """On a few pictures of a seed of their own; what the networks are worth is measured on more."""
    draw_dataset(tmp_path / "val", "val", 8, 77, 1, boxes=True)
    boxes = tmp_path / "val" / "boxes.json"
    network = FOLDER / "multibox.safetensors"
    assert not load_multibox(network).training
    proposed = cli(
        *("propose", tmp_path / "val", "--sets", "multibox", "--multibox", network, "--multibox-boxes", 40),
        *("--boxes", boxes, "--out", tmp_path / "proposals"),
    )
    assert proposed.code == 0
    coverage = pd.read_csv(tmp_path / "proposals" / "coverage.csv")
    assert coverage["coverage"].iloc[-1] >= 0.8
    detected = cli(
        *("detect", tmp_path / "val", "--boxes", boxes, "--proposals", tmp_path / "proposals"),
        *("--ensemble", MANIFESTS / "detection.toml", "--models", 2, "--device", "cpu", "--out", tmp_path / "out"),
    )
    assert detected.code == 0
    # By chance it would be near 0: each of 64 classes, in the right place.
    assert pd.read_csv(tmp_path / "out" / "detection.csv")["map"].max() >= 45
