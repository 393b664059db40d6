"""What a training reports as it goes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class EpochRecord:
    """One row of a member's log; errors in percent, on centre crops.

    Attributes:
        epoch: from 0.
        steps: taken so far.
        learning_rate: of the epoch's last step.
        train_loss: mean over the epoch, auxiliary heads included.
        averaged_iterates: how many steps' weights are in the average; 0 before it begins.
        val_top1_error, val_top5_error: of the averaged weights, or of the last ones while there is no average.
        last_top1_error, last_top5_error: of the last weights.
        images_per_second: while training, over all processes.
        seconds: spent training in this epoch, validation not included.
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


@dataclass(frozen=True, eq=False)
class StepDone:
    """One step that does not end an epoch.

    Attributes:
        step: its number, from 1.
        loss_on_device: its loss, a scalar where it was computed.
    """

    step: int
    loss_on_device: Tensor

    @property
    def loss(self) -> float:
        """Its loss; reading it waits for the device, so not every step's is read."""
        return float(self.loss_on_device)


@dataclass(frozen=True, eq=False)
class EpochDone(StepDone):
    """The last step of an epoch, and its row of the log."""

    record: EpochRecord


@dataclass(frozen=True)
class ImagesDecoded:
    """All images are in memory."""

    images: int
    seconds: float


@dataclass(frozen=True)
class MemberSkipped:
    """The member's weights are already there."""

    name: str


@dataclass(frozen=True)
class MemberStarted:
    """The member is trained from `step` (0: from the beginning) to `steps`."""

    name: str
    step: int
    steps: int
    epochs: int


@dataclass(frozen=True)
class MemberFinished:
    """The member's weights are written."""

    name: str
    weights: Path
    last_epoch: EpochRecord


@dataclass(frozen=True)
class RunFinished:
    """Everything asked for is done; `unreadable` images were left out and are listed in a file."""

    manifest: Path | None
    unreadable: int


Event = ImagesDecoded | MemberSkipped | MemberStarted | StepDone | EpochDone | MemberFinished | RunFinished
