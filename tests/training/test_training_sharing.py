import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from sharing_ranks import STOPPED_AFTER, judged, rank_main, shared_task
from tiny_training import write_pictures, write_recipe
from torch.multiprocessing.spawn import spawn

from ensemble_eval.training import task
from ensemble_eval.training.processes import Processes

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, of which one to be judged by cannot be read."""
    root = tmp_path_factory.mktemp("data")
    write_pictures(root / "train")
    write_pictures(root / "val", per_class=4)
    write_recipe(root, schedule={"epochs": 2, "batch_size": 8})
    (root / "val" / "bee" / "1.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def alone(data: Path) -> dict[str, Any]:
    """What one process finds, with one thread as the ranks have: the number changes last bits."""
    before, task.INFERENCE_BATCH_SIZE, threads = task.INFERENCE_BATCH_SIZE, 2, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return judged(shared_task(data, Processes()))
    finally:
        task.INFERENCE_BATCH_SIZE = before
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes finds, which share eleven images."""
    folder, world = tmp_path_factory.mktemp("ranks"), 2
    (folder / "data").symlink_to(data)
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    spawn(rank_main, args=(world, folder, port), nprocs=world)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def test_the_errors_are_those_of_one_process_to_the_image(found: list[Any], alone: dict[str, Any]) -> None:
    assert alone["errors"].images == 11
    assert 0 < alone["errors"].top1_wrong < 11
    assert [image.image for image in alone["errors"].unreadable] == ["bee/1.png"]
    assert [rank["errors"] for rank in found] == [alone["errors"]] * len(found)


def test_the_statistics_are_those_of_one_process_and_the_same_in_all(
    found: list[Any], alone: dict[str, Any]
) -> None:
    for name, expected in alone["statistics"].items():
        values = [rank["statistics"][name] for rank in found]
        assert all(torch.equal(value, values[0]) for value in values)
        if expected.is_floating_point():
            torch.testing.assert_close(values[0], expected, rtol=1e-5, atol=1e-6)
        else:
            assert int(values[0]) == int(expected) == 9


def test_the_first_tells_the_others_and_they_fail_together(found: list[Any]) -> None:
    assert [rank["said"] for rank in found] == ["of 0"] * len(found)
    assert [rank["called"] for rank in found] == [[0]] + [[]] * (len(found) - 1)
    assert [rank["refused"] for rank in found] == ["as the first says"] * len(found)
    assert [rank["buffers"].tolist() for rank in found] == [[1.0, 1.0]] * len(found)


def test_all_go_on_from_the_step_that_the_first_has_read(found: list[Any]) -> None:
    assert [rank["resumed"] for rank in found] == [STOPPED_AFTER] * len(found)


def test_loaders_are_counted_on_the_machine(found: list[Any]) -> None:
    assert [rank["loaders"] for rank in found] == [3, 2]
