"""All members of a batch: what a runner of batches calls."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ensemble_eval.engine.predict import Predict


class Forward(Protocol):
    """Runs some members of an ensemble on a batch."""

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """Probabilities of every member.

        Args:
            crop_batch: uint8 [B, 3, 224, 224] on the device; the same tensor comes again with other crops.
            members: which, by their index in the ensemble.

        Returns:
            float32 [members, B, classes] on the device; the next call may write over it.

        Raises:
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        ...

    def release(self) -> None:
        """Give back what is kept for batches; the device has finished all that was asked of it."""

    def new_remarks(self) -> list[str]:
        """Sentences for the user that came up since the last call."""
        ...


class OneAfterTheOther:
    """Calls the members in their order.

    Args:
        predicts: of the ensemble's members.
        before_forward: called before each; what it raises ends the run there.
    """

    def __init__(self, predicts: Sequence[Predict], before_forward: Callable[[], None] = lambda: None) -> None:
        self._predicts = tuple(predicts)
        self._before_forward = before_forward

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """See `Forward`."""
        # Memory is used again, the tensor is a new one: what was made of the last batch is known by its tensor.
        crop_batch = crop_batch.view_as(crop_batch)
        outputs = []
        for member in members:
            self._before_forward()
            outputs.append(self._predicts[member](crop_batch))
        return torch.stack(outputs)

    def release(self) -> None:
        """See `Forward`: nothing is kept."""

    def new_remarks(self) -> list[str]:
        """See `Forward`: there is nothing to say."""
        return []
