import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from builders import PICTURE_SIZES, write_dataset
from conftest import Cli

TOP_5 = (
    "models",
    "crops",
    "cost",
    "top5_error",
    "compared_to_base",
    "top5_wrong",
    "images",
    "top5_low",
    "top5_high",
)
TOP_1 = ("top1_error", "top1_wrong")


def _rows(out: Path, columns: tuple[str, ...]) -> list[list[str]]:
    with (out / "table3.csv").open(newline="") as file:
        return [[row[name] for name in columns] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def arguments(dataset: Path, ensemble: Path) -> tuple[object, ...]:
    return ("run", dataset, "--ensemble", ensemble, "--crops", "10", "--device", "cpu")


@pytest.mark.slow
def test_the_table_is_the_full_runs(cli: Cli, ensemble: Path, tmp_path: Path) -> None:
    # With ten crops of these networks nothing is decided early.
    dataset = write_dataset(tmp_path / "val", PICTURE_SIZES[:2])
    arguments = ("run", dataset, "--ensemble", ensemble, "--crops", "144", "--device", "cpu")
    full, decided, both = (tmp_path / name for name in ("full", "decided", "both"))
    assert cli(*arguments, "--out", full).code == 0
    done = cli(*arguments, "--out", decided, "--until-decided")
    assert done.code == 0
    assert cli(*arguments, "--out", both, "--until-decided", "--top1").code == 0
    assert _rows(decided, TOP_5) == _rows(full, TOP_5) == _rows(both, TOP_5)
    assert _rows(both, TOP_1) == _rows(full, TOP_1)
    # With one crop the first pass says all.
    known = [cells != ["", ""] for cells in _rows(decided, TOP_1)]
    assert known == [True, False, False] * 2

    record, of_full = (json.loads((out / "run.json").read_text()) for out in (decided, full))
    assert record["one_model_member"] == of_full["one_model_member"]
    assert record["passes"] + record["passes_saved"] == of_full["passes"]
    assert of_full["passes_saved"] == 0
    assert record["passes_saved"] > 0
    assert f"{record['passes']} passes decided the table" in done.out
    frame = pd.read_parquet(decided / "predictions")
    assert list(frame) == ["image", "member", "crops", "label", "top5_correct", "top1_correct"]
    assert frame["top5_correct"].notna().all()


def test_full_and_decided_runs_do_not_share_a_folder(
    cli: Cli, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    assert cli(*arguments, "--out", tmp_path).code == 0
    refused = cli(*arguments, "--out", tmp_path, "--until-decided")
    assert refused.code == 2
    assert "belongs to another run" in refused.err
    assert "until_decided" in refused.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--top1",), "--top1 belongs to --until-decided"),
        (("--until-decided", "--scores", "all"), "--until-decided stores decisions and no scores"),
    ],
)
def test_options_that_exclude_each_other(
    cli: Cli, arguments: tuple[object, ...], tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    refused = cli(*arguments, "--out", tmp_path / "out", *options)
    assert refused.code == 2
    assert sentence in refused.err
    assert not (tmp_path / "out").exists()
