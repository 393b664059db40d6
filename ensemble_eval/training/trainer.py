"""The training of one member: a generator of records that writes and prints nothing."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, LRScheduler, StepLR
from torch.optim.swa_utils import AveragedModel

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.errors import InputError
from ensemble_eval.training.config import Schedule
from ensemble_eval.training.records import EpochDone, EpochRecord, StepDone
from ensemble_eval.training.samples import LabelledBatch
from ensemble_eval.training.seeds import derived_seed
from ensemble_eval.training.task import Task


class IterateMean(AveragedModel):
    """torch's `AveragedModel`, on a CPU bit for bit, whose count stays on the CPU.

    torch's own copies its count to the device and reads it back at every step: each time the CPU waits until the
    device has done all that it was given.

    Attributes:
        module: a copy of the network; its parameters are the mean, its buffers those of the last iterate.
        n_averaged: how many iterates are in it, an int64 scalar on the CPU.

    Example:
        >>> network = torch.nn.Linear(1, 1, bias=False)
        >>> mean = IterateMean(network)
        >>> for weight in (1.0, 2.0, 6.0):
        ...     _ = torch.nn.init.constant_(network.weight, weight)
        ...     mean.update_parameters(network)
        >>> mean.module.weight.item(), int(mean.n_averaged)
        (3.0, 3)
    """

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the network's present parameters into the mean."""
        mean, current = (cast(list[Tensor], list(each.parameters())) for each in (self.module, model))
        if self.n_averaged == 0:
            torch._foreach_copy_(mean, current)
        else:
            steps = torch._foreach_sub(current, mean)
            torch._foreach_div_(steps, int(self.n_averaged) + 1)
            torch._foreach_add_(mean, steps)
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.n_averaged += 1


class RunningLoss:
    """The sum of losses on their device, and the first of them that was no finite number.

    Adding never waits for the device; reading does. So what reads it may do so now and then, not at every step.

    Args:
        device: where the losses are.
        total: what is in the sum already.

    Example:
        >>> losses = RunningLoss(torch.device("cpu"))
        >>> losses.add(torch.tensor(0.5), step=1)
        >>> losses.add(torch.tensor(2.0), step=2)
        >>> losses.total, losses.first_not_finite
        (2.5, None)
    """

    def __init__(self, device: torch.device, total: float = 0.0) -> None:
        self._total = torch.tensor(total, dtype=torch.float64, device=device)
        self._first_not_finite = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, step: int) -> None:
        """Add a step's loss.

        Args:
            loss: a scalar.
            step: its number, from 1.
        """
        loss = loss.detach()
        self._total += loss.double()
        news = ~loss.isfinite() & (self._first_not_finite == 0)
        self._first_not_finite.masked_fill_(news, step)

    @property
    def total(self) -> float:
        """The sum, in float64."""
        return float(self._total)

    @property
    def first_not_finite(self) -> int | None:
        """The step of the first loss that was NaN or infinite."""
        return int(self._first_not_finite) or None


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


def is_averaged(schedule: Schedule, steps_per_epoch: int, step: int) -> bool:
    """Whether the weights after `step` steps belong to the average."""
    since = step - schedule.averaging_start_epoch * steps_per_epoch
    return since > 0 and since % schedule.averaging_every_steps == 0


class Trainer:
    """Trains one member from its current state to the end of its schedule.

    Attributes:
        network: in training, with its heads.
        averaged: the equal mean of its iterates.
        step: steps taken.
        history: a row for each epoch that ended.
        unreadable: training images that were left out, with the reason.
        unreadable_validation: the same of the validation images, at the last validation.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        schedule, device = task.recipe.schedule, task.site.device
        network = task.initial_network()
        # Channels last doubles the speed of these convolutions on a CPU.
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads omit it
        self.averaged = IterateMean(self.network)
        self._optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )
        self._scheduler = learning_rate_schedule(self._optimizer, schedule, task.steps_per_epoch)
        self.step = 0
        self.history: list[EpochRecord] = []
        self.unreadable: dict[str, str] = {}
        self.unreadable_validation: dict[str, str] = {}
        self._losses = RunningLoss(device)
        self._epoch_seconds = 0.0

    def run(self) -> Iterator[StepDone | EpochDone]:
        """Take the remaining steps; the state is whole whenever a record is yielded.

        Dropout draws from torch's global generators, which are seeded anew for every step. No step waits for a
        device but the last of an epoch.

        Raises:
            InputError: the loss became NaN or infinite, or no image of a batch could be read. On a CPU the loss
                is looked at before the weights are touched; elsewhere by `state_dict` and at the epoch's end.
        """
        parallel = self._task.site.processes.parallel(self.network, self._task.site.device)
        parallel.train()
        started = time.perf_counter()
        for batch in self._task.training_batches(self.step):
            learning_rate = float(self._optimizer.param_groups[0]["lr"])
            loss = self._take_step(parallel, batch)
            ends_epoch = self.step % self._task.steps_per_epoch == 0
            # What the device has still to do of an epoch belongs to its time, so its end is waited for here.
            total = self._losses.total if ends_epoch else 0.0
            self._epoch_seconds += time.perf_counter() - started
            if ends_epoch:
                self._finish_epoch(learning_rate, total)
                yield EpochDone(self.step, loss, self.history[-1])
            else:
                yield StepDone(self.step, loss)
            parallel.train()
            started = time.perf_counter()

    def inference_network(self) -> nn.Module:
        """The averaged weights without heads and with fresh batch-norm statistics, in eval mode.

        All processes must call this, and take in turns the images that the statistics are of.
        Before the averaging begins, the last weights with the statistics of training.
        """
        averaged = int(self.averaged.n_averaged) > 0
        trained = self.averaged.module if averaged else self.network
        return self._task.inference_network(trained, averaged=averaged, epoch=self._epoch)

    def state_dict(self) -> dict[str, Any]:
        """All that the coming steps depend on, as tensors and plain values.

        Raises:
            InputError: the loss or a weight became NaN or infinite: a state not worth keeping.
        """
        started = time.perf_counter()
        self._require_finite()
        self._epoch_seconds += time.perf_counter() - started
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise self._diverged("a weight", self.step)
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "history": [asdict(record) for record in self.history],
            "unreadable": self.unreadable,
            "unreadable_validation": self.unreadable_validation,
            "epoch_loss": self._losses.total,
            "epoch_seconds": self._epoch_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave, under the same recipe and data."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]
        self.history = [EpochRecord(**row) for row in state["history"]]
        self.unreadable = dict(state["unreadable"])
        self.unreadable_validation = dict(state.get("unreadable_validation", {}))
        self._losses = RunningLoss(self._task.site.device, state["epoch_loss"])
        self._epoch_seconds = state["epoch_seconds"]

    @property
    def _epoch(self) -> int:
        """The epoch of the last step; 0 before the first."""
        return max(self.step - 1, 0) // self._task.steps_per_epoch

    def _take_step(self, parallel: nn.Module, batch: LabelledBatch) -> Tensor:
        """One step of the optimizer, the schedule and the average; returns the loss."""
        self._require_images(batch)
        task = self._task
        torch.manual_seed(derived_seed("dropout", task.plan.seed, self.step, task.site.processes.rank))
        with full_float32():
            loss = task.loss(parallel, batch)
            self._losses.add(loss, self.step + 1)
            if task.site.reading_is_free:
                self._require_finite()
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._optimizer.step()
        self._scheduler.step()
        self.step += 1
        if is_averaged(task.recipe.schedule, task.steps_per_epoch, self.step):
            self.averaged.update_parameters(self.network)
        return loss.detach()

    def _finish_epoch(self, learning_rate: float, total_loss: float) -> None:
        """Append the epoch's row to the history and begin the next one's sums."""
        task, processes = self._task, self._task.site.processes
        losses = processes.gather(total_loss / task.steps_per_epoch)
        self._require_finite()
        for unreadable in processes.gather(self.unreadable):
            self.unreadable |= unreadable
        errors = self._errors() if self._validates() else (None,) * 4
        images = task.steps_per_epoch * task.recipe.schedule.batch_size
        record = EpochRecord(
            self._epoch,
            self.step,
            learning_rate,
            sum(losses) / len(losses),
            int(self.averaged.n_averaged),
            *errors,
            images_per_second=images / self._epoch_seconds,
            seconds=self._epoch_seconds,
        )
        self.history.append(record)
        self._losses, self._epoch_seconds = RunningLoss(task.site.device), 0.0

    def _validates(self) -> bool:
        recipe = self._task.recipe
        return (self._epoch + 1) % recipe.validate_every_epochs == 0 or self.step == self._task.steps

    def _errors(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Top-1 and top-5 errors of the network for inference, then of the last weights."""
        # In training each process has gathered its own batch-norm statistics since the last step began.
        self._task.site.processes.take_buffers_of_first(self.network)
        last = self._task.judge(self.network)
        averaged = self._task.judge(self.inference_network()) if self.averaged.n_averaged > 0 else last
        self.unreadable_validation = dict(last.unreadable)
        return averaged.top1_error, averaged.top5_error, last.top1_error, last.top5_error

    def _require_images(self, batch: LabelledBatch) -> None:
        self.unreadable |= dict(batch.unreadable)
        if len(batch.labels) == 0:
            raise InputError(
                f"member {self._task.plan.name}: not one image of step {self.step + 1} could be read "
                f"({batch.unreadable[0].image}: {batch.unreadable[0].reason}); mend the training images"
            )

    def _require_finite(self) -> None:
        step = self._losses.first_not_finite
        if step is not None:
            raise self._diverged("the loss", step)

    def _diverged(self, what: str, step: int) -> InputError:
        return InputError(
            f"member {self._task.plan.name}: {what} became NaN or infinite at step {step} "
            f"(epoch {(step - 1) // self._task.steps_per_epoch}); "
            "the last good state is kept; lower learning_rate, lengthen warmup_epochs or take precision "
            "float32, and start over with `fresh=True`"
        )
