"""Estimates the cost of a run from the number of passes and one timed batch."""

import math
import time
from dataclasses import dataclass
from datetime import timedelta

import torch

from ensemble_eval.backends.opening import default_batch_size
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.batches import batches_needed
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.opening import Inputs
from ensemble_eval.settings import Settings

# The last batches of any run are padded. Below this fill ratio there is a warning.
_WELL_FILLED = 0.75


@dataclass(frozen=True)
class Cost:
    """An estimated cost.

    Attributes:
        passes_per_image: The number of crops times the number of members.
        passes_at_most: The passes of all images, if no crops coincide, as they do in square images.
        passes_per_second: The pace of the timed batch, which is full.
        batches: The number of batches, including padded ones.
        seconds_per_batch: The time for a batch through all members. Padding takes as long as crops.
    """

    passes_per_image: int
    passes_at_most: int
    passes_per_second: float
    batches: int
    seconds_per_batch: float

    @property
    def duration(self) -> timedelta:
        """The time for all batches, in whole seconds."""
        return timedelta(seconds=round(self.batches * self.seconds_per_batch))


def estimate(inputs: Inputs, settings: Settings) -> Cost:
    """Time one batch through every member, after one that warms them up.

    Raises:
        InputError: One crop alone does not fit into memory.
    """
    size = settings.batch_size or default_batch_size(inputs.device)
    while True:
        try:
            _seconds(inputs, size)
            seconds = _seconds(inputs, size)
            break
        except OutOfDeviceMemoryError as error:
            # A run halves its batch size too.
            if size == 1:
                raise InputError(f"{error} does not fit into memory; use fewer models") from error
            size //= 2
    members, images = len(inputs.members), len(inputs.dataset.items)
    per_image = settings.crops * members
    return Cost(
        per_image,
        per_image * images,
        size * members / seconds,
        batches_needed(images, settings.crops, size),
        seconds,
    )


def padding_warnings(settings: Settings, images: int, processes: int = 1) -> list[str]:
    """Warn of a batch size that is larger than the crops of the data set fill; a default is nobody's choice.

    Args:
        settings: The settings of the run.
        images: The number of images in the data set.
        processes: The number of processes that share them.
    """
    batch_size, crops = settings.batch_size, settings.crops
    if batch_size is None:
        return []
    shard = math.ceil(images / processes)
    filled = shard * crops / (batches_needed(shard, crops, batch_size) * batch_size)
    if filled >= _WELL_FILLED:
        return []
    each = "" if processes == 1 else " of each process"
    return [
        f"the {shard * crops} crops{each} fill {100 * filled:.0f}% of the rows of batches of {batch_size}; "
        "the rest is padding, which takes as long as crops do; a smaller `batch_size` wastes less"
    ]


def _seconds(inputs: Inputs, size: int) -> float:
    """Time one batch of black crops through all members."""
    began = time.perf_counter()
    with memory_errors_of(f"a batch of {size}"):
        crop_batch = torch.zeros(size, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=inputs.device)
        for predict in inputs.members.values():
            predict(crop_batch).cpu()  # waits for a device that works asynchronously
    return time.perf_counter() - began
