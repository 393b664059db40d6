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
    """torch's `AveragedModel`, with the same bits on a CPU, but with a count that stays on the CPU.

    torch's own class copies its count to the device and reads it back at every step, and each time the CPU waits
    for the device.

    Attributes:
        module: A copy of the network; its parameters are the mean, its buffers those of the last iterate.
        n_averaged: The number of iterates in the mean, an int64 scalar on the CPU.

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
        """Add the network's present parameters to the mean."""
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
    """The sum of losses on their device, and the first step whose loss was not finite.

    Adding never waits for the device. Reading does, so do it now and then, not at every step.

    Args:
        device: The device of the losses.
        total: The sum so far.

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
        """Add the loss of a step, a scalar; steps are numbered from 1."""
        loss = loss.detach()
        self._total += loss.double()
        self._first_not_finite.masked_fill_(~loss.isfinite() & (self._first_not_finite == 0), step)

    @property
    def total(self) -> float:
        """The sum, in float64."""
        return float(self._total)

    @property
    def first_not_finite(self) -> int | None:
        """The step of the first loss that was NaN or infinite."""
        return int(self._first_not_finite) or None


def learning_rate_schedule(optimizer: Optimizer, schedule: Schedule, steps_per_epoch: int) -> ChainedScheduler:
    """The fixed schedule of section 6, to be stepped once after every step of the optimizer.

    After every period the rate is multiplied by the factor (in the paper it falls by 4% every 8 epochs). If there
    is a warm-up, the rate rises linearly over it.
    """
    period = max(1, round(schedule.lr_decay_period_epochs * steps_per_epoch))
    parts: list[LRScheduler] = [StepLR(optimizer, step_size=period, gamma=schedule.lr_decay_factor)]
    if warmup := round(schedule.warmup_epochs * steps_per_epoch):
        parts.append(LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup))
    return ChainedScheduler(parts, optimizer=optimizer)


def is_averaged(schedule: Schedule, steps_per_epoch: int, step: int) -> bool:
    """Whether the weights after so many steps belong to the average."""
    since = step - schedule.averaging_start_epoch * steps_per_epoch
    return since > 0 and since % schedule.averaging_every_steps == 0


class Trainer:
    """Trains one member from its current state to the end of its schedule.

    Attributes:
        network: The network in training, with its heads.
        averaged: The mean of its iterates.
        step: The number of steps taken.
        history: A row for each epoch that ended.
        unreadable: Training images that were left out, with the reason.
        unreadable_validation: Validation images that were left out in the last validation, with the reason.
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
        """Take the remaining steps; the state is complete whenever a record is yielded.

        Dropout draws from torch's global generators, which are seeded anew for every step. Only the last step of
        an epoch waits for the device.

        Raises:
            InputError: The loss became NaN or infinite, or no image of a batch could be read. On a CPU the loss is
                checked before the weights change; elsewhere by `state_dict` and at the end of the epoch.
        """
        parallel = self._task.site.processes.parallel(self.network, self._task.site.device)
        parallel.train()
        started = time.perf_counter()
        for batch in self._task.training_batches(self.step):
            learning_rate = float(self._optimizer.param_groups[0]["lr"])
            loss = self._take_step(parallel, batch)
            ends_epoch = self.step % self._task.steps_per_epoch == 0
            # The epoch's time includes all work of the device, so wait for its end here.
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
        """The averaged weights without heads and with new batch-norm statistics, in eval mode.

        Before the averaging begins, these are the last weights with the statistics of training. All processes must
        call this; they share the images for the statistics.
        """
        averaged = int(self.averaged.n_averaged) > 0
        trained = self.averaged.module if averaged else self.network
        return self._task.inference_network(trained, averaged=averaged, epoch=self._epoch)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, as tensors and plain values.

        Raises:
            InputError: The loss or a weight became NaN or infinite.
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
        """Continue from a state of `state_dict`, with the same recipe and data."""
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
        """Append the epoch's row to the history, and start the sums of the next epoch."""
        task, processes = self._task, self._task.site.processes
        losses = processes.gather(total_loss / task.steps_per_epoch)
        self._require_finite()
        for unreadable in processes.gather(self.unreadable):
            self.unreadable |= unreadable
        validates = (self._epoch + 1) % task.recipe.validate_every_epochs == 0 or self.step == task.steps
        errors = self._errors() if validates else (None,) * 4
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

    def _errors(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Top-1 and top-5 errors of the network for inference, then of the last weights."""
        # Since the last step began, each process has gathered batch-norm statistics of its own.
        self._task.site.processes.take_buffers_of_first(self.network)
        last = self._task.judge(self.network)
        averaged = self._task.judge(self.inference_network()) if self.averaged.n_averaged > 0 else last
        self.unreadable_validation = dict(last.unreadable)
        return *averaged.percent, *last.percent

    def _require_images(self, batch: LabelledBatch) -> None:
        self.unreadable |= dict(batch.unreadable)
        if len(batch.labels) == 0:
            raise InputError(
                f"member {self._task.plan.name}: not one image of step {self.step + 1} could be read "
                f"({batch.unreadable[0].image}: {batch.unreadable[0].reason}); repair the training images"
            )

    def _require_finite(self) -> None:
        if (step := self._losses.first_not_finite) is not None:
            raise self._diverged("the loss", step)

    def _diverged(self, what: str, step: int) -> InputError:
        return InputError(
            f"member {self._task.plan.name}: {what} became NaN or infinite at step {step} "
            f"(epoch {(step - 1) // self._task.steps_per_epoch}); "
            "the last good state is kept; lower learning_rate, lengthen warmup_epochs or take precision "
            "float32, and start over with `fresh=True`"
        )
