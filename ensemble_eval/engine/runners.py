"""Holding images on a device and running batches of their crops there, for CPUs and for GPUs."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.gathering import BLACK, Gatherer, PixelBuffer
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Forward

Result = TypeVar("Result")

LaunchedBatch = contextlib.AbstractContextManager[NDArray[np.float32]]
"""A context that waits for a batch.

Its value is the probabilities float32 [members, batch_size, classes], which are valid inside the context.
"""


class SynchronousRunner(Generic[Result]):
    """Runs batches on a CPU, where nothing can overlap: `launch` returns when the batch is computed.

    Args:
        forward: Runs the members.
        device: The device of the batches.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        # One for each size of crops.
        self._crops: dict[int, Tensor] = {}

    def admit(self, image: ReadyImage) -> ReadyImage:
        """Return the image from which crops are cut from now on, until `remove`."""
        return image

    def remove(self, image: ReadyImage) -> None:
        """Drop an image that `admit` returned; batches launched from now on have no crops of it."""

    def launch(self, batch: Batch[Result]) -> LaunchedBatch:
        """Run a batch; its crops are cut one by one.

        Raises:
            OutOfDeviceMemoryError: The batch does not fit into memory; call `release` and try a smaller one.
        """
        return contextlib.nullcontext(self._forward(self._crop_batch(batch), batch.members).numpy())

    def release(self) -> None:
        """Release the memory that is kept for batches."""
        self._crops = {}
        self._forward.release()

    clear = release

    def _crop_batch(self, batch: Batch[Result]) -> Tensor:
        """Cut the crops uint8 [batch_size, 3, size, size], channels last, padded with black."""
        side = batch.crop_size
        crops = self._crops.get(side)
        if crops is None or len(crops) != batch.size:
            shape = (batch.size, side, side, 3)
            crops = torch.empty(shape, dtype=torch.uint8, device=self._device).permute(0, 3, 1, 2)
            self._crops[side] = crops
        for row, (pooled, view) in batch.passes.items():
            source = pooled.image.source
            crops[row] = source.cut(source.plan.views[view])
        if not batch.is_full:
            crops[[row for row in range(batch.size) if row not in batch.passes]] = 0
        return crops


# The type depends on the streams; tests have streams with events of their own.
Event = Any


class CudaStream:
    """A CUDA stream: runs its work in order, concurrently with other streams and with this process.

    Events order the work of several streams. Tests replace this class with streams that run everything as late,
    or as early, as the events allow.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def run(self, work: Callable[[], None]) -> None:
        """Queue the tensor operations of `work`; the device may run them later."""
        with torch.cuda.stream(self._stream):
            work()

    def record(self) -> Event:
        """Return an event that occurs when all work queued so far is done."""
        # Waiting blocks. Otherwise the process would spin, and occupy a processor that its loaders need.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's stub
        event.record(self._stream)
        return event

    def wait(self, event: Event) -> None:
        """Delay the work that is queued from now on until the event has occurred."""
        self._stream.wait_event(event)


class CudaStreams:
    """The two streams of a CUDA device.

    Args:
        device: The device, with its index.

    Attributes:
        loading: Copies pixels to the device and cuts crops, on a stream of its own.
        computing: Runs members and copies their probabilities to host memory, on the current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.loading = CudaStream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch's stub
        self.computing = CudaStream(torch.cuda.current_stream(device))

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor in pinned host memory, which the device can copy from and to asynchronously."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def wait_for(self, event: Event) -> None:
        """Block this process until the event has occurred."""
        event.synchronize()

    def wait_for_all(self) -> None:
        """Block this process until both streams are empty."""
        torch.cuda.synchronize(self._device)

    def trim(self) -> None:
        """Release device memory that is cached but not in use."""
        torch.cuda.empty_cache()


@dataclass(eq=False)
class _BatchBuffers:
    """The buffers of one batch, from its addresses to its outcome; they are reused once the outcome was read.

    Attributes:
        host_addresses: The `Address` of each row, int64 [B, 3] in host memory.
        addresses: The same on the device.
        crops: The crops, uint8 [B, size, size, 3] on the device.
        crop_batch: The same memory as [B, 3, size, size], channels last.
        probabilities: Buffers for probabilities, float32 in host memory, by their shape [members, B, classes].
        outcome: The probabilities of the last batch, one of these buffers.
    """

    host_addresses: Tensor
    addresses: Tensor
    crops: Tensor
    crop_batch: Tensor
    probabilities: dict[torch.Size, Tensor] = field(default_factory=dict)
    outcome: Tensor | None = None


class StreamRunner(Generic[Result]):
    """Runs batches on CUDA streams, with a fixed number of operations per batch besides its members.

    The pixels of the whole pool are in one buffer, and one batch is assembled while another runs. The pixels are
    written and read only on the stream for loading, so their accesses need no events. The buffers of a batch are
    reused only after its outcome was read, which is their last use.

    Args:
        forward: Runs the members.
        device: The device of the pixels and the batches.
        streams: The streams of the device.
    """

    def __init__(self, forward: Forward, device: torch.device, streams: CudaStreams) -> None:
        self._forward = forward
        self._device = device
        self._streams = streams
        self._pixels = PixelBuffer(device)
        self._gather = Gatherer(device)
        # Buffers that no batch uses, by the size of crops. `release` replaces the lists, so that buffers still in
        # use are not reused.
        self._free: defaultdict[int, list[_BatchBuffers]] = defaultdict(list)

    def admit(self, image: ReadyImage) -> ReadyImage:
        """Copy the image's pixels to the device."""
        source, pixels = image.source.pixels, self._pixels
        start = pixels.allocate(len(source))

        def bring() -> None:
            pixels.grow()
            pixels.bytes[start : start + len(source)].copy_(source, non_blocking=True)

        self._streams.loading.run(bring)
        return replace(image, source=image.source.moved_to(start))

    def remove(self, image: ReadyImage) -> None:
        """Let later images overwrite the image's pixels, on the stream that has read them."""
        self._pixels.free(min(region.offset for region in image.source.regions.values()))

    def launch(self, batch: Batch[Result]) -> LaunchedBatch:
        """Queue the work of a batch: gather the crops, run the members, and copy the probabilities to the host."""
        free = self._free[batch.crop_size]
        buffers = free.pop() if free else self._new_buffers(batch)
        buffers.host_addresses.copy_(torch.tensor(_addresses(batch)))
        loading, computing, pixels = self._streams.loading, self._streams.computing, self._pixels

        def load() -> None:
            buffers.addresses.copy_(buffers.host_addresses, non_blocking=True)
            self._gather(pixels.bytes, buffers.addresses, buffers.crops)

        def compute() -> None:
            probabilities = self._forward(buffers.crop_batch, batch.members)
            shape = probabilities.shape
            if shape not in buffers.probabilities:
                buffers.probabilities[shape] = self._streams.host_memory(shape, probabilities.dtype)
            buffers.outcome = buffers.probabilities[shape]
            buffers.outcome.copy_(probabilities, non_blocking=True)

        loading.run(load)
        computing.wait(loading.record())
        computing.run(compute)
        return self._outcome(buffers, computing.record(), free)

    def release(self) -> None:
        """Release the memory of batches, once the device has finished with it."""
        self._streams.wait_for_all()
        self._free = defaultdict(list)
        self._forward.release()
        self._streams.trim()

    def clear(self) -> None:
        """Release the memory of batches and of pixels."""
        self.release()
        self._pixels = PixelBuffer(self._device)

    @contextlib.contextmanager
    def _outcome(
        self, buffers: _BatchBuffers, computed: Event, free: list[_BatchBuffers]
    ) -> Iterator[NDArray[np.float32]]:
        self._streams.wait_for(computed)
        assert buffers.outcome is not None
        yield buffers.outcome.numpy()
        free.append(buffers)

    def _new_buffers(self, batch: Batch[Result]) -> _BatchBuffers:
        shape = (batch.size, batch.crop_size, batch.crop_size, 3)
        crops = torch.empty(shape, dtype=torch.uint8, device=self._device)
        addresses = torch.empty((batch.size, len(BLACK)), dtype=torch.int64, device=self._device)
        host_addresses = self._streams.host_memory(addresses.shape, addresses.dtype)
        buffers = _BatchBuffers(host_addresses, addresses, crops, crops.permute(0, 3, 1, 2))
        # The new memory may have belonged to another tensor, which the members still use.
        self._streams.loading.wait(self._streams.computing.record())
        return buffers


def _addresses(batch: Batch[Result]) -> list[tuple[int, int, int]]:
    """Return the address of every row; rows without a crop are black."""
    addresses: list[tuple[int, int, int]] = [BLACK] * batch.size
    for row, (pooled, view) in batch.passes.items():
        source = pooled.image.source
        addresses[row] = source.address(source.plan.views[view])
    return addresses
