"""Data sets as users have them: output folders, odd files and changes inside them."""

import csv
import os
import shutil
from pathlib import Path

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
