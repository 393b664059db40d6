import math

import torch

from ensemble_eval.training.trainer import RunningLoss


def test_the_sum_is_the_one_of_python_floats_and_can_be_continued() -> None:
    losses = torch.rand(50, generator=torch.Generator().manual_seed(0)) * 7
    running = RunningLoss(torch.device("cpu"), total=0.1)
    for step, loss in enumerate(losses, start=1):
        running.add(loss, step)
    expected = 0.1
    for loss in losses:
        expected += float(loss)
    assert running.total == expected
    assert running.first_not_finite is None


def test_the_first_that_is_not_finite_is_remembered() -> None:
    running = RunningLoss(torch.device("cpu"))
    for step, loss in enumerate([1.0, math.inf, 2.0, math.nan], start=11):
        running.add(torch.tensor(loss), step)
    assert running.first_not_finite == 12


def test_adding_reads_nothing_from_the_device() -> None:
    meta = torch.device("meta")
    running = RunningLoss(meta)
    running.add(torch.zeros((), device=meta), step=1)
