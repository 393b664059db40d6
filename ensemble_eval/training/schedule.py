"""The learning rate and when Polyak averaging takes part, in steps."""

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, LRScheduler, StepLR

from ensemble_eval.training.config import Schedule


def learning_rate_schedule(optimizer: Optimizer, schedule: Schedule, steps_per_epoch: int) -> ChainedScheduler:
    """Section 6's fixed schedule, to be stepped once after every step of the optimizer.

    The rate is multiplied by the factor at the end of every period (the paper: 4% lower every 8 epochs),
    and rises linearly over the warm-up, if there is one, from its first step's share on.
    """
    period = max(1, round(schedule.lr_decay_period_epochs * steps_per_epoch))
    parts: list[LRScheduler] = [StepLR(optimizer, step_size=period, gamma=schedule.lr_decay_factor)]
    if warmup := round(schedule.warmup_epochs * steps_per_epoch):
        parts.append(LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup))
    return ChainedScheduler(parts, optimizer=optimizer)


@dataclass(frozen=True)
class AveragingTimes:
    """Which steps' weights the average takes in."""

    first_step: int
    every: int

    def include(self, step: int) -> bool:
        """Whether the weights after `step` steps belong to the average."""
        return step > self.first_step and (step - self.first_step) % self.every == 0


def averaging_times(schedule: Schedule, steps_per_epoch: int) -> AveragingTimes:
    """The steps of `averaging_start_epoch` and later, every `averaging_every_steps`."""
    return AveragingTimes(schedule.averaging_start_epoch * steps_per_epoch, schedule.averaging_every_steps)
