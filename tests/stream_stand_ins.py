"""Streams of work without a GPU: what is asked for is done later, and no earlier and no later than events say.

A GPU may be slower or faster than the process that feeds it by any amount. A stream that is late does nothing
before somebody waits for an event that needs it. An early one does everything at once, but for what an event keeps
it from. Whatever is right with both, in both streams, is ordered by events alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_eval.engine.runners import CudaStream, CudaStreams

POISON = 0x5A


@dataclass
class StandInEvent:
    """What a stream had been asked for when the event was recorded."""

    stream: "StandInStream"
    steps: int


class StandInStream(CudaStream):
    """See the module."""

    def __init__(self, *, late: bool) -> None:
        self._late = late
        self._steps: list[Callable[[], None]] = []
        self._done = self._known = 0

    def run(self, work: Callable[[], None]) -> None:
        self._ask(work)

    def record(self) -> StandInEvent:
        return StandInEvent(self, len(self._steps))

    def wait(self, event: StandInEvent) -> None:
        self._ask(lambda: event.stream.advance(event.steps))

    @property
    def is_known_to_be_idle(self) -> bool:
        return self._known == len(self._steps)

    def wait_until(self, steps: int) -> None:
        """Let the process wait for what was asked for, up to this many steps since the beginning."""
        self.advance(steps)
        self._known = max(self._known, steps)

    def wait_until_idle(self) -> None:
        self.wait_until(len(self._steps))

    def advance(self, steps: int) -> None:
        """Do what was asked for, up to this many steps since the beginning."""
        while self._done < steps:
            self._done += 1
            self._steps[self._done - 1]()

    def _ask(self, step: Callable[[], None]) -> None:
        self._steps.append(step)
        if not self._late:
            self.advance(len(self._steps))


class StandInStreams(CudaStreams):
    """Streams of the CPU.

    Args:
        late: names of the streams that do nothing before they must, of `loading` and `computing`.
    """

    def __init__(self, late: Sequence[str] = ()) -> None:
        self.loading: StandInStream = StandInStream(late="loading" in late)
        self.computing: StandInStream = StandInStream(late="computing" in late)

    @property
    def are_known_to_be_idle(self) -> bool:
        """Whether the process has waited until the device had done all, so that memory may be freed."""
        return self.loading.is_known_to_be_idle and self.computing.is_known_to_be_idle

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.full(tuple(shape), POISON, dtype=dtype)

    def wait_for(self, event: StandInEvent) -> None:
        event.stream.wait_until(event.steps)

    def wait_for_all(self) -> None:
        self.loading.wait_until_idle()
        self.computing.wait_until_idle()

    def trim(self) -> None:
        assert self.are_known_to_be_idle
