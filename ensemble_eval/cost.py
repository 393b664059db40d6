"""What a run would cost, from the number of passes and one timed batch."""

import time
from dataclasses import dataclass
from datetime import timedelta

import torch

from ensemble_eval.backends import default_batch_size
from ensemble_eval.crops import CROP_SIZE
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
    """Time one batch through every member, after one that warms them up."""
    size = settings.batch_size or default_batch_size(inputs.backend, inputs.device)
    crops = torch.zeros(size, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=inputs.device)
    _pass_through(inputs, crops)
    began = time.perf_counter()
    _pass_through(inputs, crops)
    seconds = time.perf_counter() - began
    per_image = settings.crops * len(inputs.members)
    return Cost(per_image, per_image * len(inputs.dataset.items), size * len(inputs.members) / seconds)


def _pass_through(inputs: Inputs, crops: torch.Tensor) -> None:
    for predict in inputs.members.values():
        predict(crops).cpu()  # waits for a device that works in the background
