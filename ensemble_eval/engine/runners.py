"""Holding images on a device and running batches of their crops there, for CPUs and for GPUs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.gathering import BLACK, Gatherer, PixelBuffer
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Forward

Result = TypeVar("Result")

LaunchedBatch = contextlib.AbstractContextManager[NDArray[np.float32]]
"""Entering it waits for the probabilities float32 [members, batch_size, classes], valid until it is left."""


class CuttingRunner(Generic[Result]):
    """Runs batches on a CPU, where nothing can overlap: a batch has its outcome when it is launched.

    Args:
        forward: runs the members.
        device: of the batches.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        self._crops: Tensor | None = None

    def admit(self, image: ReadyImage) -> ReadyImage:
        """The image as its crops are taken from it from now on, until `leave`."""
        return image

    def leave(self, image: ReadyImage) -> None:
        """No batch that is launched from now on has crops of this image, as `admit` returned it."""

    def launch(self, batch: Batch[Result]) -> LaunchedBatch:
        """Run a batch, whose crops are cut one by one.

        Raises:
            OutOfDeviceMemoryError: it does not fit; `release`, and try a smaller one.
        """
        return contextlib.nullcontext(self._forward(self._crop_batch(batch), batch.members).numpy())

    def release(self) -> None:
        """Release the memory that is kept for batches."""
        self._crops = None
        self._forward.release()

    clear = release

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


# Of whatever kind the queues make.
Event = Any


class CudaQueue:
    """A CUDA stream: does what it is asked for in that order, beside other queues and beside this process.

    Events order the work of several queues. Tests override this class by queues that do everything as late, or as
    early, as the events allow.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def run(self, work: Callable[[], None]) -> None:
        """Ask for the tensor operations of `work`; the device may do them later."""
        with torch.cuda.stream(self._stream):
            work()

    def record(self) -> Event:
        """An event that comes when all that was asked for so far is done."""
        # To wait for it blocks: the process would spin otherwise, and take a processor from its loaders.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's stub
        event.record(self._stream)
        return event

    def wait(self, event: Event) -> None:
        """Begin nothing that is asked for from now on before the event."""
        self._stream.wait_event(event)


class CudaQueues:
    """The two queues of a CUDA device.

    Args:
        device: with its index.

    Attributes:
        loading: copies pixels to the device and cuts crops, on a stream of its own.
        computing: runs members and copies what they say to this machine, on the current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.loading = CudaQueue(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch's stub
        self.computing = CudaQueue(torch.cuda.current_stream(device))

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor of this machine's memory that the device can copy from and to beside this process."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def wait_for(self, event: Event) -> None:
        """Halt this process until the event has come."""
        event.synchronize()

    def wait_for_all(self) -> None:
        """Halt this process until both queues are empty."""
        torch.cuda.synchronize(self._device)

    def trim(self) -> None:
        """Release the device's memory that is kept for later and not in use."""
        torch.cuda.empty_cache()


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

    Pixels of the whole pool are in one buffer, and one batch is put together while another runs. The pixels are
    written and read in the queue for loading alone, so that its order is enough. The buffers of a batch are used
    again only after its outcome was read, which is the last thing done with them.

    Args:
        forward: runs the members.
        device: of the pixels and the batches.
        queues: of the device.
    """

    def __init__(self, forward: Forward, device: torch.device, queues: CudaQueues) -> None:
        self._forward = forward
        self._device = device
        self._queues = queues
        self._pixels = PixelBuffer(device)
        self._gather = Gatherer(device)
        # Buffers that no batch uses. After `release` another list: those of earlier batches do not come back.
        self._free: list[_BatchBuffers] = []

    def admit(self, image: ReadyImage) -> ReadyImage:
        """Copy the image's pixels to the device."""
        source, pixels = image.source.pixels, self._pixels
        start = pixels.take(len(source))

        def bring() -> None:
            pixels.grow()
            pixels.bytes[start : start + len(source)].copy_(source, non_blocking=True)

        self._queues.loading.run(bring)
        return replace(image, source=image.source.moved_to(start))

    def leave(self, image: ReadyImage) -> None:
        """Let others be copied over the image, in the same queue that has read it."""
        self._pixels.give_back(min(region.offset for region in image.source.regions.values()))

    def launch(self, batch: Batch[Result]) -> LaunchedBatch:
        """Ask the device to gather the crops, to run the members and to bring back the probabilities."""
        buffers = self._free.pop() if self._free else self._new_buffers(batch.size)
        buffers.host_addresses.copy_(torch.tensor(_addresses(batch)))
        loading, computing, pixels = self._queues.loading, self._queues.computing, self._pixels

        def load() -> None:
            buffers.addresses.copy_(buffers.host_addresses, non_blocking=True)
            self._gather(pixels.bytes, buffers.addresses, buffers.crops)

        def compute() -> None:
            probabilities = self._forward(buffers.crop_batch, batch.members)
            shape = probabilities.shape
            if shape not in buffers.probabilities:
                buffers.probabilities[shape] = self._queues.host_memory(shape, probabilities.dtype)
            buffers.outcome = buffers.probabilities[shape]
            buffers.outcome.copy_(probabilities, non_blocking=True)

        loading.run(load)
        computing.wait(loading.record())
        computing.run(compute)
        return self._outcome(buffers, computing.record(), self._free)

    def release(self) -> None:
        """Give back the memory of batches, once the device has done with it."""
        self._queues.wait_for_all()
        self._free = []
        self._forward.release()
        self._queues.trim()

    def clear(self) -> None:
        """Give back the memory of batches and of pixels."""
        self.release()
        self._pixels = PixelBuffer(self._device)

    @contextlib.contextmanager
    def _outcome(
        self, buffers: _BatchBuffers, computed: Event, free: list[_BatchBuffers]
    ) -> Iterator[NDArray[np.float32]]:
        self._queues.wait_for(computed)
        assert buffers.outcome is not None
        yield buffers.outcome.numpy()
        free.append(buffers)

    def _new_buffers(self, batch_size: int) -> _BatchBuffers:
        crops = torch.empty((batch_size, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8, device=self._device)
        addresses = torch.empty((batch_size, len(BLACK)), dtype=torch.int64, device=self._device)
        host_addresses = self._queues.host_memory(addresses.shape, addresses.dtype)
        buffers = _BatchBuffers(host_addresses, addresses, crops, crops.permute(0, 3, 1, 2))
        # Its memory may have been another tensor's, which the members still use.
        self._queues.loading.wait(self._queues.computing.record())
        return buffers


def _addresses(batch: Batch[Result]) -> list[tuple[int, int, int]]:
    """Of every row; those without a crop are black."""
    addresses: list[tuple[int, int, int]] = [BLACK] * batch.size
    for row, (pooled, view) in batch.passes.items():
        source = pooled.image.source
        addresses[row] = source.address(source.plan.views[view])
    return addresses
