import warnings

import pytest
import torch
from tiny_training import tiny_recipe

from ensemble_eval.training.trainer import is_averaged, learning_rate_schedule


def rates(steps: int, steps_per_epoch: int, **schedule: float) -> list[float]:
    """The learning rate of each step."""
    recipe = tiny_recipe(schedule={"epochs": 100, "learning_rate": 1.0, **schedule})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = learning_rate_schedule(optimizer, recipe.schedule, steps_per_epoch)
    values = []
    for _ in range(steps):
        values.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return values


def test_the_rate_falls_by_4_percent_every_8_epochs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = rates(steps=24 * 5, steps_per_epoch=5)
    assert values == pytest.approx([1.0] * 40 + [0.96] * 40 + [0.9216] * 40)


def test_period_and_factor_are_fields_and_a_period_may_be_part_of_an_epoch() -> None:
    values = rates(steps=8, steps_per_epoch=4, lr_decay_period_epochs=0.5, lr_decay_factor=0.5)
    assert values == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(0.65, 3), (0.55, 2), (0.3, 1), (0.1, 1), (1e-9, 1)],
    ids=["2.6 steps", "2.2 steps", "1.2 steps", "0.4 steps", "almost nothing"],
)
def test_a_period_is_the_nearest_number_of_whole_steps_and_at_least_one(epochs: float, steps: int) -> None:
    values = rates(steps=9, steps_per_epoch=4, lr_decay_period_epochs=epochs, lr_decay_factor=0.5)
    assert values == pytest.approx([0.5 ** (step // steps) for step in range(9)])


def test_the_warm_up_rises_linearly_and_the_decay_goes_on_meanwhile() -> None:
    values = rates(steps=7, steps_per_epoch=4, warmup_epochs=1, lr_decay_period_epochs=1, lr_decay_factor=0.5)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.5, 0.5, 0.5])


def test_the_average_takes_in_every_so_many_steps_from_its_epoch_on() -> None:
    recipe = tiny_recipe(schedule={"epochs": 9, "averaging_start_epoch": 2, "averaging_every_steps": 3})
    assert [step for step in range(26) if is_averaged(recipe.schedule, 5, step)] == [13, 16, 19, 22, 25]
