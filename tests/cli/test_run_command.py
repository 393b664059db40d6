import copy
import csv
import hashlib
import json
import shutil
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from builders import (
    CLASS_NAMES,
    PICTURE_SIZES,
    encoded,
    picture,
    png_that_claims,
    tiff_with_offsets_in_text,
    write_dataset,
)
from conftest import Cli
from torch import Tensor

from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.engine.predict import OutOfDeviceMemoryError


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "table3.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_table_predictions_and_record(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    arguments = ("run", dataset, "--ensemble", ensemble, "--crops", "10", "--out", tmp_path / "out")
    finished = cli(*arguments)
    assert finished.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions",
        "run.json",
        "table3.csv",
        "unreadable.csv",
    ]
    rows = _rows(tmp_path / "out")
    configurations = [(row["models"], row["crops"], row["cost"], row["images"]) for row in rows]
    images = str(len(PICTURE_SIZES))
    assert configurations == [
        ("1", "1", "1", images),
        ("1", "10", "10", images),
        ("2", "1", "2", images),
        ("2", "10", "20", images),
    ]

    # Once more from the predictions, by hand.
    predictions = pd.read_parquet(tmp_path / "out" / "predictions")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    for row in rows:
        member = "ensemble" if row["models"] == "2" else record["one_model_member"]
        mine = predictions[(predictions["member"] == member) & (predictions["crops"] == int(row["crops"]))]
        wrong = sum(label not in top5 for label, top5 in zip(mine["label"], mine["top5"], strict=True))
        assert row["top5_wrong"] == str(wrong)
        assert row["top1_wrong"] == str(sum(mine["label"] != mine["top5"].str[0]))
    labels = dict(zip(predictions["image"], predictions["label"], strict=True))
    assert all(CLASS_NAMES[label] == image.split("/")[0] for image, label in labels.items())

    # Everything that repeats the run.
    assert record["arguments"]["crops"] == 10
    assert record["arguments"]["dataset"] == str(dataset)
    assert (record["backend"], record["precision"]) == ("torch", "float32")
    executions = record["executions"]
    [execution] = copy.deepcopy(executions)
    assert execution.pop("threads") > 0
    assert execution.pop("versions") == record["versions"]
    assert execution == {"device": "cpu", "device_name": "cpu", "batch_size": 16, "ranks": 1}
    assert record["manifest_sha256"] == hashlib.sha256(ensemble.read_bytes()).hexdigest()
    weights = {name: (ensemble.parent / f"{name}.safetensors").read_bytes() for name in "ab"}
    assert record["weights_sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in weights.items()}
    assert record["versions"]["torch"] == metadata.version("torch")
    assert record["seconds"] > 0
    assert record["passes"] == 2 * 10 * len(PICTURE_SIZES)

    # The last row against the first, as it stands on the terminal.
    gain = record["gain"]
    assert (gain["base"], gain["compared"]) == ({"models": 1, "crops": 1}, {"models": 2, "crops": 10})
    difference = float(rows[-1]["top5_error"]) - float(rows[0]["top5_error"])
    assert gain["top5_difference"] == pytest.approx(difference, abs=1e-4)
    bounds = f"{gain['top5_difference_low']:+.2f} to {gain['top5_difference_high']:+.2f}"
    assert f"paired by image: {bounds}\n" in finished.out

    # The same command again changes nothing, and does not pass for what did the work.
    table = (tmp_path / "out" / "table3.csv").read_bytes()
    again = cli(*arguments, "--batch-size", "32")
    assert again.code == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["executions"] == executions
    assert f"continuing: {images} images were done before" in again.err
    assert (tmp_path / "out" / "table3.csv").read_bytes() == table


def test_the_table_stands_on_the_terminal_beside_the_papers(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results[old]"
    finished = cli("run", dataset, "--ensemble", ensemble, "--crops", "1", "--out", out)
    assert finished.out.endswith(f"written to {out / 'table3.csv'}\n")
    assert "10.07%" in finished.out
    assert f"2 models × 1 crops × {len(PICTURE_SIZES)} images on cpu, torch, float32" in finished.err
    assert f"{len(PICTURE_SIZES)}/{len(PICTURE_SIZES)} images, " in finished.err


def test_unreadable_images_are_listed_and_not_counted(cli: Cli, ensemble: Path, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "val", [(40, 30), (30, 40), (30, 30)])
    whole = encoded(picture(60, 50), "JPEG")
    (root / "ant" / "bomb.png").write_bytes(png_that_claims(30_000, 30_000))
    (root / "bee" / "cut, short.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "cat" / "text.png").write_text("not an image")
    (root / "eel" / "strange.tif").write_bytes(tiff_with_offsets_in_text())
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    finished = cli("run", root, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out")
    assert finished.code == 3
    assert "warning: 5 unreadable images are not counted; see" in finished.err
    with (tmp_path / "out" / "unreadable.csv").open(newline="") as file:
        header, *listed = csv.reader(file)
    assert header == ["image", "reason"]
    assert [image for image, _ in listed] == [
        *("ant/bomb.png", "bee/cut, short.jpg", "cat/text.png", "dog/gone.png", "eel/strange.tif")
    ]
    assert listed[0][1].startswith("decompression bomb: ")
    assert listed[1][1].startswith("damaged: ")
    assert listed[2][1] == "not an image of a known format"
    assert listed[3][1] == "cannot be read (No such file or directory)"
    assert listed[4][1] == "damaged: 'str' object cannot be interpreted as an integer"
    assert {row["images"] for row in _rows(tmp_path / "out")} == {"3"}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["images"], record["unreadable_images"]) == (3, 5)
    # The same job ends well where that is asked for, and says the same.
    accepted = cli(
        "run", root, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out", "--unreadable-ok"
    )
    assert accepted.code == 0
    assert "warning: 5 unreadable images are not counted; see" in accepted.err
    assert (tmp_path / "out" / "unreadable.csv").read_text().count("\n") == 6


def test_batches_that_become_smaller_are_told_of_and_recorded(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = NetworkPredict.__call__

    def small(self: NetworkPredict, crops: Tensor) -> Tensor:
        if len(crops) > 16:
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        return predict(self, crops)

    monkeypatch.setattr(NetworkPredict, "__call__", small)
    out = tmp_path / "out"
    arguments = ("--crops", "10", "--batch-size", "64", "--out", out)
    finished = cli("run", dataset, "--ensemble", ensemble, *arguments)
    assert finished.code == 0
    assert finished.err.count("warning: a batch did not fit into memory; batches now have 16 crops") == 1
    record = json.loads((out / "run.json").read_text())
    assert [execution["batch_size"] for execution in record["executions"]] == [16]
    assert record["arguments"]["batch_size"] == 64


def test_two_members_with_the_same_weights_are_warned_of(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(ensemble.parent, folder)
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    finished = cli(
        "run", dataset, "--ensemble", folder / "ensemble.toml", "--crops", "1", "--out", tmp_path / "out"
    )
    assert finished.code == 0
    assert "warning: members a and b have the same weights; that is not an ensemble" in finished.err


def test_a_flat_folder_a_folder_of_checkpoints_and_no_scores(cli: Cli, ensemble: Path, tmp_path: Path) -> None:
    root = tmp_path / "val"
    root.mkdir()
    for index, name in enumerate(("x.png", "y.png")):
        (root / name).write_bytes(encoded(picture(50, 40, seed=index)))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\nx.png,fox\ny.png,cat\n")
    options = ("--labels", labels, "--models", "1", "--scores", "none", "--crops", "1")
    finished = cli("run", root, "--ensemble", ensemble.parent, *options, "--out", tmp_path / "out")
    assert finished.code == 0
    predictions = pd.read_parquet(tmp_path / "out" / "predictions")
    assert dict(zip(predictions["image"], predictions["label"], strict=True)) == {"x.png": 5, "y.png": 2}
    assert "scores" not in predictions.columns
    assert len(_rows(tmp_path / "out")) == 1


def test_one_configuration_is_compared_with_nothing(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    options = ("--models", "1", "--crops", "1", "--out", tmp_path / "out")
    finished = cli("run", dataset, "--ensemble", ensemble, *options)
    assert finished.code == 0
    assert "last row against the first" not in finished.out
    assert json.loads((tmp_path / "out" / "run.json").read_text())["gain"] is None


def test_a_damaged_part_is_done_again(cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    arguments = ("run", dataset, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out")
    assert cli(*arguments).code == 0
    table = (tmp_path / "out" / "table3.csv").read_bytes()
    [part] = (tmp_path / "out" / "predictions").glob("part-*")
    part.write_bytes(part.read_bytes()[:-1])
    finished = cli(*arguments)
    assert finished.code == 0
    assert "had changed since it was written; its images are computed again" in finished.err
    assert (tmp_path / "out" / "table3.csv").read_bytes() == table
    assert len(pd.read_parquet(tmp_path / "out" / "predictions")) == 3 * len(PICTURE_SIZES)


@pytest.mark.parametrize("crops", [1, 144])
def test_check_prints_the_cost_and_writes_nothing(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, crops: int
) -> None:
    finished = cli(
        *("check", dataset, "--ensemble", ensemble, "--crops", crops, "--batch-size", "2"),
        *("--out", tmp_path / "out"),
    )
    assert finished.code == 0
    images = len(PICTURE_SIZES)
    assert (
        f"passes    {2 * crops * images} at most ({2 * crops} an image, fewer where crops coincide)"
        in finished.out
    )
    assert "classes   7 (" in finished.out
    assert finished.out.endswith("everything that a run needs is there\n")
    assert not (tmp_path / "out").exists()
