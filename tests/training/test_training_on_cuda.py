import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_task, write_pictures

from ensemble_eval.training.task import Task
from ensemble_eval.training.trainer import Trainer

pytestmark = pytest.mark.cuda


@pytest.fixture
def on_cuda(tmp_path: Path) -> Task:
    write_pictures(tmp_path / "train")
    write_pictures(tmp_path / "val", per_class=2)
    task = tiny_task(tmp_path, schedule={"averaging_start_epoch": 0})
    return dataclasses.replace(task, site=dataclasses.replace(task.site, device=torch.device("cuda", 0)))


@pytest.fixture
def waiting_fails() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("waiting_fails")
def test_no_step_waits_for_the_device(on_cuda: Task) -> None:
    steps = Trainer(on_cuda).run()
    next(steps)  # the first of all makes handles and workspaces
    torch.cuda.set_sync_debug_mode("error")
    assert [event.step for event in itertools.islice(steps, 2)] == [2, 3]


def test_a_training_goes_to_its_end_and_on_from_its_state(on_cuda: Task) -> None:
    whole, begun, resumed = Trainer(on_cuda), Trainer(on_cuda), Trainer(on_cuda)
    list(whole.run())
    list(itertools.islice(begun.run(), 5))
    resumed.load_state_dict(begun.state_dict())
    list(resumed.run())
    assert [row.steps for row in resumed.history] == [row.steps for row in whole.history] == [4, 8, 12]
    assert resumed.history[-1].train_loss == pytest.approx(whole.history[-1].train_loss, rel=0.05)
