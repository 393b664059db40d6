"""What every backend does around its network: a batch of crops in, probabilities out."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ensemble_eval.engine.predict import memory_errors_of
from ensemble_eval.errors import InputError

PREPARING = threading.RLock()
"""Held while a network is converted or compiled. The tracer of torch keeps state for the whole process, and so do
the converter and the core of OpenVINO: in two threads at once they fail, or wait for each other for good."""


class NetworkPredict(ABC):
    """The `Predict` of a member that is a network, whichever backend runs it; the softmax is torch's, in float32.

    Args:
        name: the member's name, for messages.
        preprocess: the member's; uint8 [B, 3, 224, 224] -> float32 [B, 3, 224, 224], channels last.
        num_classes: what the network must return.
    """

    def __init__(self, name: str, preprocess: Callable[[Tensor], Tensor], num_classes: int) -> None:
        self._name = name
        self._preprocess = preprocess
        self._num_classes = num_classes

    @torch.inference_mode()
    def __call__(self, crop_batch: Tensor) -> Tensor:
        """See `Predict`.

        Raises:
            InputError: the network does not return logits [B, classes], or the processor lacks the precision.
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        with memory_errors_of(f"member {self._name}: a batch of {len(crop_batch)}"):
            logits = self._logits(self._preprocess(crop_batch))
            self._require_logits(logits, len(crop_batch))
            return torch.softmax(logits.float(), dim=1)

    def try_batch(self, crop_batch: Tensor) -> None:
        """Find out whether batches like this one can be run; see `__call__` for what is raised if not."""
        self(crop_batch)

    @abstractmethod
    def _logits(self, normalised: Tensor) -> Tensor:
        """What the network makes of a preprocessed batch."""

    def _require_logits(self, logits: object, batch: int) -> None:
        """Refuse a network whose output is not one score per crop and class."""
        expected = (batch, self._num_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"member {self._name} returns {given} for {batch} crops, and the ensemble's classes need "
                f"{expected}; check its options and the manifest's classes"
            )
