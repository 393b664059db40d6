"""Batches on a GPU: pixels of the whole pool in one arena, and a batch in the making while another runs."""

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.gathering import BLACK, Gatherer
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.arena import Arena
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.forward import Forward
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.queues import Event, Queues

Result = TypeVar("Result")


@dataclass(eq=False)
class _Desk:
    """What one batch needs from its addresses to its outcome; used again once that was read.

    Attributes:
        host_addresses: int64 [B, 3] in this machine's memory, see `Address`.
        addresses: the same on the device.
        crops: uint8 [B, 224, 224, 3] on the device.
        crop_batch: the same memory as [B, 3, 224, 224], channels last.
        probabilities: in this machine's memory, float32, by their shape [members, B, classes].
        outcome: those of the last batch.
    """

    host_addresses: Tensor
    addresses: Tensor
    crops: Tensor
    crop_batch: Tensor
    probabilities: dict[torch.Size, Tensor] = field(default_factory=dict)
    outcome: Tensor | None = None


class QueuedRunner(Generic[Result]):
    """Runs batches by the queues of a device, with a fixed number of operations for each beside its members.

    The arena is written and read in the queue for loading alone, so that its order is enough. A desk is used again
    only after its outcome was read; that was the last to be done with it.

    Args:
        forward: runs the members.
        device: of the arena and the batches.
        queues: of the device.
    """

    def __init__(self, forward: Forward, device: torch.device, queues: Queues) -> None:
        self._forward = forward
        self._device = device
        self._queues = queues
        self._arena = Arena(device)
        self._gather = Gatherer(device)
        self._desks: list[_Desk] = []
        self._free: list[_Desk] = []

    def admit(self, image: ReadyImage) -> ReadyImage:
        """See `Runner`: its pixels are copied into the arena."""
        pixels, arena = image.source.pixels, self._arena
        start = arena.take(len(pixels))

        def bring() -> None:
            arena.grow()
            arena.bytes[start : start + len(pixels)].copy_(pixels, non_blocking=True)

        self._queues.loading.run(bring)
        return replace(image, source=image.source.moved_to(start))

    def leave(self, image: ReadyImage) -> None:
        """See `Runner`: others may be copied to its place, in the same queue that has read it."""
        self._arena.give_back(min(region.offset for region in image.source.regions.values()))

    def launch(self, batch: Batch[Result]) -> "_Queued":
        """See `Runner`."""
        desk = self._free.pop() if self._free else self._new_desk(batch.size)
        desk.host_addresses.copy_(torch.tensor(_addresses(batch)))
        loading, computing, arena = self._queues.loading, self._queues.computing, self._arena

        def load() -> None:
            desk.addresses.copy_(desk.host_addresses, non_blocking=True)
            self._gather(arena.bytes, desk.addresses, desk.crops)

        def compute() -> None:
            probabilities = self._forward(desk.crop_batch, batch.members)
            if probabilities.shape not in desk.probabilities:
                room = self._queues.host_memory(probabilities.shape, probabilities.dtype)
                desk.probabilities[probabilities.shape] = room
            desk.outcome = desk.probabilities[probabilities.shape]
            desk.outcome.copy_(probabilities, non_blocking=True)

        loading.run(load)
        computing.wait(loading.record())
        computing.run(compute)
        return _Queued(self, desk, computing.record())

    def release(self) -> None:
        """See `Runner`: nothing is let go before the device has done with it."""
        self._queues.wait_for_all()
        self._desks.clear()
        self._free.clear()
        self._forward.release()
        self._queues.trim()

    def clear(self) -> None:
        """See `Runner`."""
        self.release()
        self._arena = Arena(self._device)

    def read(self, desk: _Desk, computed: Event) -> NDArray[np.float32]:
        """What the members said of a desk's batch, once the event has come that it is there."""
        self._queues.wait_for(computed)
        assert desk.outcome is not None
        probabilities: NDArray[np.float32] = desk.outcome.numpy()
        return probabilities

    def take_back(self, desk: _Desk) -> None:
        """Use a desk for another batch, unless memory was given back meanwhile."""
        if desk in self._desks:
            self._free.append(desk)

    def _new_desk(self, batch_size: int) -> _Desk:
        crops = torch.empty((batch_size, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8, device=self._device)
        addresses = torch.empty((batch_size, len(BLACK)), dtype=torch.int64, device=self._device)
        host_addresses = self._queues.host_memory(addresses.shape, addresses.dtype)
        desk = _Desk(host_addresses, addresses, crops, crops.permute(0, 3, 1, 2))
        # Its memory may have been another tensor's, which the members are still at.
        self._queues.loading.wait(self._queues.computing.record())
        self._desks.append(desk)
        return desk


class _Queued:
    """A batch that its device is at, or will be."""

    def __init__(self, runner: QueuedRunner[Result], desk: _Desk, computed: Event) -> None:
        self._runner = runner
        self._desk = desk
        self._computed = computed

    def wait(self) -> NDArray[np.float32]:
        """See `Outcome`."""
        return self._runner.read(self._desk, self._computed)

    def close(self) -> None:
        """See `Outcome`."""
        self._runner.take_back(self._desk)


def _addresses(batch: Batch[Result]) -> list[tuple[int, int, int]]:
    """Of every row; those without a crop are black."""
    addresses: list[tuple[int, int, int]] = [BLACK] * batch.size
    for row, (pooled, view) in batch.passes.items():
        source = pooled.image.source
        addresses[row] = source.address(source.plan.views[view])
    return addresses
