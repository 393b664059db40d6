"""What a run would cost, from the number of passes and one timed batch."""

import time
from dataclasses import dataclass
from datetime import timedelta

import torch

from ensemble_eval.backends import OutOfDeviceMemoryError, default_batch_size, memory_errors_of
from ensemble_eval.crops import CROP_SIZE
from ensemble_eval.errors import InputError
from ensemble_eval.inputs import Inputs, Settings


@dataclass(frozen=True)
class Cost:
    """An estimate; `passes_at_most` counts crops that coincide in square images as often as they occur."""

    passes_per_image: int
    passes_at_most: int
    passes_per_second: float

    @property
    def duration(self) -> timedelta:
        """Time for all passes at the measured pace, in whole seconds."""
        return timedelta(seconds=round(self.passes_at_most / self.passes_per_second))


def estimate(settings: Settings, inputs: Inputs) -> Cost:
    """Time one batch through every member, after one that warms them up.

    Raises:
        InputError: one crop alone does not fit into memory.
    """
    size = settings.batch_size or default_batch_size(inputs.device)
    while True:
        try:
            _seconds(inputs, size)
            seconds = _seconds(inputs, size)
            break
        except OutOfDeviceMemoryError as error:
            # As a run does: half the batch.
            if size == 1:
                raise InputError(f"{error} does not fit into memory; use fewer models") from error
            size //= 2
    per_image = settings.crops * len(inputs.members)
    return Cost(per_image, per_image * len(inputs.dataset.items), size * len(inputs.members) / seconds)


def _seconds(inputs: Inputs, size: int) -> float:
    """Of one batch of black crops through all members."""
    began = time.perf_counter()
    with memory_errors_of(f"a batch of {size}"):
        crops = torch.zeros(size, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=inputs.device)
        for predict in inputs.members.values():
            predict(crops).cpu()  # waits for a device that works in the background
    return time.perf_counter() - began
