"""Data sets as users have them: output folders, odd files and changes inside them."""

import csv
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli


@pytest.fixture
def val(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the six pictures in seven class folders, to be changed."""
    return Path(shutil.copytree(dataset, tmp_path / "val"))


def test_a_named_pipe_is_listed_as_unreadable(cli: Cli, val: Path, ensemble: Path, tmp_path: Path) -> None:
    os.mkfifo(val / "ant" / "pipe.png")
    arguments = (val, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out")
    assert cli("check", *arguments).code == 0
    assert cli("run", *arguments).code == 3
    with (tmp_path / "out" / "unreadable.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["ant/pipe.png", "cannot be read (it is a named pipe, not a file)"]]


def test_members_with_different_weights_are_not_warned_of(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path
) -> None:
    finished = cli("check", dataset, "--ensemble", ensemble, "--crops", "1", "--out", tmp_path / "out")
    assert (finished.code, finished.err) == (0, "")


@pytest.mark.parametrize("options", [[], ["--ranks", "2", "--device", "cpu"]], ids=["alone", "ranks"])
def test_an_output_folder_in_the_data_set_starts_and_continues(
    cli: Cli, val: Path, ensemble: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(val)
    arguments = (".", "--ensemble", ensemble, "--crops", "1")
    assert cli("run", *arguments, *options).code == 0
    table = (val / "results" / "table3.csv").read_bytes()
    assert cli("check", *arguments).err == ""
    [part, *_] = sorted((val / "results" / "predictions").glob("part-*"))
    part.unlink()
    finished = cli("run", *arguments, *options)
    assert finished.code == 0
    assert (val / "results" / "table3.csv").read_bytes() == table
    assert len(set(pd.read_parquet(val / "results" / "predictions")["image"])) == 6


@pytest.mark.parametrize("command", ["run", "check"])
def test_the_data_set_itself_is_no_output_folder(cli: Cli, val: Path, ensemble: Path, command: str) -> None:
    before = sorted(val.rglob("*"))
    finished = cli(command, val, "--ensemble", ensemble, "--crops", "1", "--out", val)
    assert finished.code == 2
    assert f"--out {val} is the data set itself, and its files would mix with the images" in finished.err
    assert sorted(val.rglob("*")) == before
