"""Estimates the cost of a run from the number of passes and one timed batch."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch

from ensemble_eval.backends.opening import default_batch_size, load_members
from ensemble_eval.engine.batches import batches_needed
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.opening import Inputs, Sources
from ensemble_eval.jobs.prefetch import load_image
from ensemble_eval.settings import Settings

# The last batches of any run are padded. Below this fill ratio there is a warning.
_WELL_FILLED = 0.75
_TIMED_IMAGES = 8


@dataclass(frozen=True)
class Cost:
    """An estimated cost.

    Attributes:
        passes_per_image: The number of crops times the number of members.
        passes_at_most: The passes of all images, if no crops coincide, as they do in square images.
        passes_per_second: The pace of the timed batches, which are full.
        seconds: The time for all batches, including padded ones. Padding takes as long as crops.
        loading_seconds: The time in one thread to decode and resize an image, the mean of a few.
        multiply_adds: The multiply-adds of convolutions and matrix products for one image; None if a member is a
            function or a graph.
    """

    passes_per_image: int
    passes_at_most: int
    passes_per_second: float
    seconds: float
    loading_seconds: float
    multiply_adds: int | None

    @property
    def duration(self) -> timedelta:
        """The time for all batches, in whole seconds."""
        return timedelta(seconds=round(self.seconds))


def estimate(inputs: Inputs, settings: Settings) -> Cost:
    """Time one batch through every member, after one that warms them up.

    Raises:
        InputError: One crop alone does not fit into memory.
    """
    size = settings.batch_size or default_batch_size(inputs.device)
    while True:
        try:
            for group in inputs.rule.groups:
                _seconds(inputs, group, size)
            seconds = [_seconds(inputs, group, size) for group in inputs.rule.groups]
            break
        except OutOfDeviceMemoryError as error:
            # A run halves its batch size too.
            if size == 1:
                raise InputError(f"{error} does not fit into memory; use fewer models") from error
            size //= 2
    members, images = len(inputs.members), len(inputs.dataset.items)
    per_image = inputs.rule.crops * members
    batches = batches_needed(images, inputs.rule.crops, size)
    return Cost(
        per_image,
        per_image * images,
        size * members / sum(seconds),
        batches * sum(seconds),
        _loading_seconds(inputs),
        _multiply_adds(inputs, settings),
    )


def padding_warnings(settings: Settings, sources: Sources, processes: int = 1) -> list[str]:
    """Warn of a batch size that is larger than the crops of the data set fill; a default is nobody's choice.

    Args:
        settings: The settings of the run.
        sources: The ensemble and the data set.
        processes: The number of processes that share the images.
    """
    batch_size, crops, images = settings.batch_size, sources.rule.crops, len(sources.dataset.items)
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


def _seconds(inputs: Inputs, group: Sequence[int], size: int) -> float:
    """Time one batch of black crops through the members of a group."""
    side, predicts = inputs.rule.protocols[group[0]].size, list(inputs.members.values())
    began = time.perf_counter()
    with memory_errors_of(f"a batch of {size}"):
        crop_batch = torch.zeros(size, 3, side, side, dtype=torch.uint8, device=inputs.device)
        for member in group:
            predicts[member](crop_batch).cpu()  # waits for a device that works asynchronously
    return time.perf_counter() - began


def _loading_seconds(inputs: Inputs) -> float:
    some = list(enumerate(inputs.dataset.items[:_TIMED_IMAGES]))
    began = time.perf_counter()
    for position, item in some:
        load_image(position, item, inputs.rule)
    return (time.perf_counter() - began) / len(some)


def _multiply_adds(inputs: Inputs, settings: Settings) -> int | None:
    # It imports Triton, and only `check` estimates.
    from torch.utils.flop_counter import FlopCounterMode

    total = 0
    members = load_members(inputs.ensemble, settings, lambda _: None)
    for loaded, protocol in zip(members, inputs.rule.protocols, strict=True):
        if loaded.network is None:
            return None
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            loaded.network(torch.zeros(1, 3, protocol.size, protocol.size))
        # It counts a multiply-add as two operations.
        total += counter.get_total_flops() // 2
    return total * inputs.rule.crops
