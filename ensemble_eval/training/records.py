"""What a training reports as it goes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class EpochRecord:
    """One row of a member's log; errors are in percent, on centre crops.

    Attributes:
        epoch: The epoch, from 0.
        steps: The steps taken so far.
        learning_rate: The rate of the epoch's last step.
        train_loss: The mean over the epoch, auxiliary heads included.
        averaged_iterates: How many steps' weights are in the average; 0 before it begins.
        val_top1_error, val_top5_error: The errors of the averaged weights, or of the last weights before there is
            an average.
        last_top1_error, last_top5_error: The errors of the last weights.
        images_per_second: The images trained on per second, over all processes.
        seconds: The time spent on training in this epoch, without validation.
    """

    epoch: int
    steps: int
    learning_rate: float
    train_loss: float
    averaged_iterates: int
    val_top1_error: float | None
    val_top5_error: float | None
    last_top1_error: float | None
    last_top5_error: float | None
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Line:
    """A line for the user about what was done."""

    text: str


@dataclass(frozen=True)
class MemberStarted:
    """A member is trained from `step` (0: from the beginning) to `steps`."""

    name: str
    step: int
    steps: int
    epochs: int


@dataclass(frozen=True, eq=False)
class StepDone:
    """A step that does not end an epoch.

    Attributes:
        step: The step's number, from 1.
        loss_on_device: The step's loss, a scalar on the device that computed it.
    """

    step: int
    loss_on_device: Tensor

    @property
    def loss(self) -> float:
        """The step's loss; reading it waits for the device, so read it only now and then."""
        return float(self.loss_on_device)


@dataclass(frozen=True, eq=False)
class EpochDone(StepDone):
    """The last step of an epoch, and its row of the log."""

    record: EpochRecord


@dataclass(frozen=True)
class RunFinished:
    """Everything is done; `unreadable` images were left out and are listed in a file."""

    manifest: Path | None
    unreadable: int


Event = Line | MemberStarted | StepDone | EpochDone | RunFinished
