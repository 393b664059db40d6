"""What the loop asks of a device: to hold images, and to run batches of their crops."""

from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.forward import Forward
from ensemble_eval.engine.pool import ReadyImage

Result = TypeVar("Result")


class Outcome(Protocol):
    """A batch that was launched."""

    def wait(self) -> NDArray[np.float32]:
        """Probabilities float32 [members, batch_size, classes], once they are there; valid until `close`."""
        ...

    def close(self) -> None:
        """Let what the batch took up be used for others."""


class Runner(Protocol[Result]):
    """Where batches are put together and run."""

    def admit(self, image: ReadyImage) -> ReadyImage:
        """The image as its crops are taken from it from now on; `leave` must follow some day.

        Raises:
            RuntimeError: there is no memory for it; see `memory_errors_of`.
        """
        ...

    def leave(self, image: ReadyImage) -> None:
        """No batch that is launched from now on has crops of this image, as `admit` returned it."""

    def launch(self, batch: Batch[Result]) -> Outcome:
        """Start a batch.

        Raises:
            OutOfDeviceMemoryError: it does not fit; `release`, and try a smaller one.
        """
        ...

    def release(self) -> None:
        """Wait for what was launched, and give back all memory that is kept for batches."""

    def clear(self) -> None:
        """As `release`, and no image is held any more."""


class CuttingRunner(Generic[Result]):
    """Cuts one crop after the other, and has the outcome when it has launched: for a CPU, with nothing to overlap.

    Args:
        forward: runs the members.
        device: of the batches.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        self._crops: Tensor | None = None

    def admit(self, image: ReadyImage) -> ReadyImage:
        """See `Runner`: it is where it is needed."""
        return image

    def leave(self, image: ReadyImage) -> None:
        """See `Runner`."""

    def launch(self, batch: Batch[Result]) -> "_Ready":
        """See `Runner`."""
        return _Ready(self._forward(self._crop_batch(batch), batch.members))

    def release(self) -> None:
        """See `Runner`."""
        self._crops = None
        self._forward.release()

    def clear(self) -> None:
        """See `Runner`."""
        self.release()

    def _crop_batch(self, batch: Batch[Result]) -> Tensor:
        """Crops uint8 [batch_size, 3, 224, 224], channels last, padded with black."""
        if self._crops is None or len(self._crops) != batch.size:
            shape = (batch.size, CROP_SIZE, CROP_SIZE, 3)
            self._crops = torch.empty(shape, dtype=torch.uint8, device=self._device).permute(0, 3, 1, 2)
        for row, (pooled, view) in batch.passes.items():
            source = pooled.image.source
            self._crops[row] = source.cut(source.plan.views[view])
        if not batch.is_full:
            self._crops[[row for row in range(batch.size) if row not in batch.passes]] = 0
        return self._crops


class _Ready:
    """An outcome that is there."""

    def __init__(self, probabilities: Tensor) -> None:
        self._probabilities = probabilities

    def wait(self) -> NDArray[np.float32]:
        """See `Outcome`."""
        probabilities: NDArray[np.float32] = self._probabilities.numpy()
        return probabilities

    def close(self) -> None:
        """See `Outcome`."""
