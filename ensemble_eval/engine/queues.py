"""The two queues of work that a GPU is given: one that brings pixels and cuts crops, one that runs members.

What is in one queue is done in its order, beside the other queue and beside this process; events order all three.
Tests replace these by queues that do everything as late, or as early, as the events allow.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# Of whatever kind the queues make.
Event = Any


class Queue(Protocol):
    """Work that a device does in the order in which it is asked to."""

    def run(self, work: Callable[[], None]) -> None:
        """Ask for the tensor operations of `work`; a device may do them later."""

    def record(self) -> Event:
        """An event that comes when all that was asked for so far is done."""
        ...

    def wait(self, event: Event) -> None:
        """What is asked for from now on is not begun before the event."""


class Queues(Protocol):
    """The queues of one device.

    Attributes:
        loading: brings pixels to the device and cuts crops.
        computing: runs members and brings back what they say.
    """

    @property
    def loading(self) -> Queue:
        """See the class."""
        ...

    @property
    def computing(self) -> Queue:
        """See the class."""
        ...

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor of this machine's memory that the device can copy from and to beside this process."""
        ...

    def wait_for(self, event: Event) -> None:
        """Halt this process until the event has come."""

    def wait_for_all(self) -> None:
        """Halt this process until both queues are empty."""

    def trim(self) -> None:
        """Give the device's memory back that is kept for later and not in use."""


class CudaQueue:
    """A CUDA stream."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def run(self, work: Callable[[], None]) -> None:
        """See `Queue`."""
        with torch.cuda.stream(self._stream):
            work()

    def record(self) -> torch.cuda.Event:
        """See `Queue`."""
        # To wait for it blocks: the process would spin otherwise, and take a processor from its loaders.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's stub
        event.record(self._stream)
        return event

    def wait(self, event: torch.cuda.Event) -> None:
        """See `Queue`."""
        self._stream.wait_event(event)


class CudaQueues:
    """The queues of a CUDA device: a stream of its own for loading, and the current one for members.

    Args:
        device: with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.loading = CudaQueue(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch's stub
        self.computing = CudaQueue(torch.cuda.current_stream(device))

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Queues`."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def wait_for(self, event: torch.cuda.Event) -> None:
        """See `Queues`."""
        event.synchronize()

    def wait_for_all(self) -> None:
        """See `Queues`."""
        torch.cuda.synchronize(self._device)

    def trim(self) -> None:
        """See `Queues`."""
        torch.cuda.empty_cache()
