"""`run` as a rank: what it does for the others, and what it does not."""

import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Cli

from ensemble_eval.datasets.items import FileItem
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.jobs import runner
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.devices import device_of_rank, devices_for_ranks
from ensemble_eval.store.status import read_status

Arguments = tuple[object, ...]


@pytest.fixture
def arguments(dataset: Path, ensemble: Path, tmp_path: Path) -> Arguments:
    evaluation = ("run", dataset, "--ensemble", ensemble, "--out", tmp_path / "out", "--device", "cpu")
    return (*evaluation, "--crops", "1", "--save-every", "0")


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_POLL_FOLDERS_SECONDS", 0.05)


def become(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    """Set what torchrun sets."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))


def images_done(out: Path) -> int:
    return len(list((out / "predictions").glob("part-*")))


def test_a_rank_that_is_through_leaves_and_rank_0_finds_its_images(
    cli: Cli, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: a rank that waited for another would never end."""
    for rank in (2, 1):
        become(monkeypatch, rank, world=3)
        left = cli(*arguments)
        assert (left.code, left.out, left.err) == (0, "", "")
        assert not (tmp_path / "out" / "table3.csv").exists()
    assert images_done(tmp_path / "out") == 4
    become(monkeypatch, 0, world=3)
    last = cli(*arguments, "--timeout", "60")
    assert last.code == 0
    assert "on 3 ranks" in last.err
    assert len(re.findall(r"^6/6 images, \d+ crops/s, 0:00:00 left$", last.err, re.MULTILINE)) == 1
    assert (tmp_path / "out" / "table3.csv").exists()


def test_rank_0_names_a_rank_whose_images_do_not_come(
    cli: Cli, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, 1, world=3)
    assert cli(*arguments).code == 0
    become(monkeypatch, 0, world=3)
    given_up = cli(*arguments, "--timeout", "0.6")
    assert given_up.code == 1
    assert "error: rank 0: rank 2 of 3 has stored nothing for 1 s and still has 2 images to do (" in given_up.err
    assert "rank 1" not in given_up.err
    assert not (tmp_path / "out" / "table3.csv").exists()


def test_only_rank_0_tries_unreadable_images_again(
    cli: Cli, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stored tells rank 0 that another rank is at an image which a start before could not read."""

    def unreadable(_: FileItem) -> bytes:
        raise UnreadableImageError("the drive is away")

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(FileItem, "read", unreadable)
        assert "none of the images could be read" in cli(*arguments).err
    assert read_status(out, RUN).unreadable == 6
    become(monkeypatch, 1, world=2)
    assert cli(*arguments).code == 0
    assert read_status(out, RUN).done == 0
    become(monkeypatch, 0, world=2)
    assert cli(*arguments).code == 0
    assert (read_status(out, RUN).done, read_status(out, RUN).unreadable) == (6, 0)
    assert len(pd.read_parquet(out / "predictions")) == 6 * 3


def test_fresh_is_refused_where_others_may_have_written(
    cli: Cli, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, 1, world=2)
    assert cli(*arguments).code == 0
    refused = cli(*arguments, "--fresh")
    assert refused.code == 2
    assert f"remove {tmp_path / 'out'} instead" in refused.err
    assert images_done(tmp_path / "out") == 3


@pytest.mark.parametrize(("processors", "warned"), [(2, True), (3, False)])
def test_more_ranks_than_processors_are_warned_of(
    cli: Cli, arguments: Arguments, monkeypatch: pytest.MonkeyPatch, processors: int, warned: bool
) -> None:
    assert cli(*arguments).code == 0  # so that the ranks have nothing to do, and are not started
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    finished = cli(*arguments, "--ranks", "3")
    assert finished.code == 0
    sentence = "warning: 3 ranks share the 2 processors that this process may use; more ranks than processors"
    assert (sentence in finished.err) == warned


def test_the_processors_of_a_process_are_those_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert usable_processors() == 3


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("device", "ranks", "processes"),
    [
        ("auto", None, 4),
        ("cuda", None, 4),
        ("cuda", 3, 3),
        ("cuda:2", None, 1),
        ("cpu", None, 1),
        ("cpu", 5, 5),
    ],
)
def test_a_run_takes_all_devices_unless_an_option_narrows_it(
    device: str, ranks: int | None, processes: int
) -> None:
    assert devices_for_ranks(device, ranks) == processes


@pytest.mark.usefixtures("four_gpus")
def test_each_rank_has_a_device_of_its_own_and_machines_count_from_their_first() -> None:
    assert [device_of_rank("auto", rank, 4) for rank in range(4)] == [torch.device("cuda", n) for n in range(4)]
    assert device_of_rank("cuda:2", 0, 4) == torch.device("cuda:2")
    assert device_of_rank("cpu", 3, 4) == torch.device("cpu")


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("device", "ranks", "sentence"),
    [
        ("auto", 5, "`ranks=5`: there are 4 CUDA devices for them"),
        ("cuda:1", 2, "`ranks=2`: there are 1 CUDA devices for them"),
    ],
)
def test_more_ranks_than_devices_are_refused(device: str, ranks: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        devices_for_ranks(device, ranks)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
