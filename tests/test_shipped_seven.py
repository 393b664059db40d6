"""The seven in the repository: what their manifest, records and recipe say of them, and that they work."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Cli

from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.writing import draw_dataset
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.training.config import read_recipe

PROJECT = Path(__file__).parents[1]
MANIFEST = PROJECT / "manifests" / "default.toml"
RECIPE = PROJECT / "manifests" / "train-demo.toml"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def shipped() -> Ensemble:
    return open_ensemble(MANIFEST)


def test_the_manifest_names_seven_small_files_by_their_hash(shipped: Ensemble) -> None:
    assert [member.name for member in shipped.members] == list("abcdefg")
    assert shipped.classes.names == CLASS_NAMES
    sizes = [member.weights_file.stat().st_size for member in shipped.members]
    assert max(sizes) <= 3 * MEGABYTE
    assert sum(sizes) <= 25 * MEGABYTE
    hashes = [hashlib.sha256(member.weights_file.read_bytes()).hexdigest() for member in shipped.members]
    assert [member.sha256 for member in shipped.members] == hashes
    assert len(set(hashes)) == 7
    assert len({member.options["width"] for member in shipped.members}) == 2, "one is wider"


def test_each_was_trained_by_the_recipe_that_is_shipped_with_it(shipped: Ensemble) -> None:
    recipe = read_recipe(RECIPE)
    for member in shipped.members:
        record = json.loads(member.weights_file.with_suffix(".json").read_text())
        assert record["sha256"] == member.sha256
        assert (
            record["decides_the_weights"].items()
            >= recipe.what_decides_the_weights(recipe.member(member.name)).items()
        )
        with member.weights_file.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == recipe.schedule.epochs
        last = record["last_epoch"]
        assert float(rows[-1]["val_top5_error"]) == pytest.approx(last["val_top5_error"], abs=1e-3)
        assert int(rows[-1]["averaged_iterates"]) == last["averaged_iterates"] > 0


@pytest.mark.slow
def test_both_backends_give_the_same_scores(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
    draw_dataset(tmp_path / "val", "val", images=12, seed=3, workers=1)
    scores = []
    for backend in ("torch", "openvino"):
        out = tmp_path / backend
        finished = cli(
            *("run", tmp_path / "val", "--ensemble", MANIFEST, "--models", 7, "--crops", 1, "--scores", "all"),
            *("--backend", backend, "--device", "cpu", "--batch-size", 16, "--out", out),
        )
        assert finished.code == 0, finished.err
        predictions = pd.read_parquet(out / "predictions").sort_values(["image", "member"])
        scores.append(np.array(predictions["scores"].tolist()))
    assert scores[0].shape == (12 * 8, 64)
    assert np.abs(scores[0] - scores[1]).max() < 1e-4
