"""Batches on a GPU: pixels of the whole pool in one buffer, and one batch put together while another runs."""

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.gathering import BLACK, Gatherer
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.forward import Forward
from ensemble_eval.engine.pixel_buffer import PixelBuffer
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.queues import Event, Queues

Result = TypeVar("Result")


@dataclass(eq=False)
class _BatchBuffers:
    """Memory of one batch, from its addresses to its outcome; used again once that was read.

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

    The buffer is written and read in the queue for loading alone, so that its order is enough. The buffers of a
    batch are used again only after its outcome was read, which is the last thing done with them.

    Args:
        forward: runs the members.
        device: of the buffer and the batches.
        queues: of the device.
    """

    def __init__(self, forward: Forward, device: torch.device, queues: Queues) -> None:
        self._forward = forward
        self._device = device
        self._queues = queues
        self._buffer = PixelBuffer(device)
        self._gather = Gatherer(device)
        self._all_buffers: list[_BatchBuffers] = []
        self._free: list[_BatchBuffers] = []

    def admit(self, image: ReadyImage) -> ReadyImage:
        """See `Runner`: its pixels are copied into the buffer."""
        pixels, buffer = image.source.pixels, self._buffer
        start = buffer.take(len(pixels))

        def bring() -> None:
            buffer.grow()
            buffer.bytes[start : start + len(pixels)].copy_(pixels, non_blocking=True)

        self._queues.loading.run(bring)
        return replace(image, source=image.source.moved_to(start))

    def leave(self, image: ReadyImage) -> None:
        """See `Runner`: others may be copied over it, in the same queue that has read it."""
        self._buffer.give_back(min(region.offset for region in image.source.regions.values()))

    def launch(self, batch: Batch[Result]) -> "_Queued":
        """See `Runner`."""
        buffers = self._free.pop() if self._free else self._new_buffers(batch.size)
        buffers.host_addresses.copy_(torch.tensor(_addresses(batch)))
        loading, computing, buffer = self._queues.loading, self._queues.computing, self._buffer

        def load() -> None:
            buffers.addresses.copy_(buffers.host_addresses, non_blocking=True)
            self._gather(buffer.bytes, buffers.addresses, buffers.crops)

        def compute() -> None:
            probabilities = self._forward(buffers.crop_batch, batch.members)
            if probabilities.shape not in buffers.probabilities:
                pinned = self._queues.host_memory(probabilities.shape, probabilities.dtype)
                buffers.probabilities[probabilities.shape] = pinned
            buffers.outcome = buffers.probabilities[probabilities.shape]
            buffers.outcome.copy_(probabilities, non_blocking=True)

        loading.run(load)
        computing.wait(loading.record())
        computing.run(compute)
        return _Queued(self, buffers, computing.record())

    def release(self) -> None:
        """See `Runner`: nothing is let go before the device has done with it."""
        self._queues.wait_for_all()
        self._all_buffers.clear()
        self._free.clear()
        self._forward.release()
        self._queues.trim()

    def clear(self) -> None:
        """See `Runner`."""
        self.release()
        self._buffer = PixelBuffer(self._device)

    def read(self, buffers: _BatchBuffers, computed: Event) -> NDArray[np.float32]:
        """Probabilities of the batch in these buffers, once the event has come that they are there."""
        self._queues.wait_for(computed)
        assert buffers.outcome is not None
        probabilities: NDArray[np.float32] = buffers.outcome.numpy()
        return probabilities

    def take_back(self, buffers: _BatchBuffers) -> None:
        """Use these buffers for another batch, unless memory was given back meanwhile."""
        if buffers in self._all_buffers:
            self._free.append(buffers)

    def _new_buffers(self, batch_size: int) -> _BatchBuffers:
        crops = torch.empty((batch_size, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8, device=self._device)
        addresses = torch.empty((batch_size, len(BLACK)), dtype=torch.int64, device=self._device)
        host_addresses = self._queues.host_memory(addresses.shape, addresses.dtype)
        buffers = _BatchBuffers(host_addresses, addresses, crops, crops.permute(0, 3, 1, 2))
        # Its memory may have been another tensor's, which the members still use.
        self._queues.loading.wait(self._queues.computing.record())
        self._all_buffers.append(buffers)
        return buffers


class _Queued:
    """A batch that its device computes, or will."""

    def __init__(self, runner: QueuedRunner[Result], buffers: _BatchBuffers, computed: Event) -> None:
        self._runner = runner
        self._buffers = buffers
        self._computed = computed

    def wait(self) -> NDArray[np.float32]:
        """See `Outcome`."""
        return self._runner.read(self._buffers, self._computed)

    def close(self) -> None:
        """See `Outcome`."""
        self._runner.take_back(self._buffers)


def _addresses(batch: Batch[Result]) -> list[tuple[int, int, int]]:
    """Of every row; those without a crop are black."""
    addresses: list[tuple[int, int, int]] = [BLACK] * batch.size
    for row, (pooled, view) in batch.passes.items():
        source = pooled.image.source
        addresses[row] = source.address(source.plan.views[view])
    return addresses
