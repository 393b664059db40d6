"""Queues of work without a GPU: what is asked for is done later, and no earlier and no later than events say.

A GPU may be slower or faster than the process that feeds it by any amount. A queue that is late does nothing
before somebody waits for an event that needs it. An early one does everything at once, but for what an event keeps
it from. Whatever is right with both, in both queues, is ordered by events alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POISON = 0x5A


@dataclass
class StandInEvent:
    """What a queue had been asked for when the event was recorded."""

    queue: "StandInQueue"
    steps: int


class StandInQueue:
    """See the module; `log` takes down what is asked for, in its order."""

    def __init__(self, name: str, log: list[str], *, late: bool) -> None:
        self.name, self._log, self._late = name, log, late
        self._steps: list[Callable[[], None]] = []
        self._done = 0

    def run(self, work: Callable[[], None]) -> None:
        self._log.append(f"{self.name}: {work.__name__}")
        self._ask(work)

    def record(self) -> StandInEvent:
        self._log.append(f"{self.name}: record")
        return StandInEvent(self, len(self._steps))

    def wait(self, event: StandInEvent) -> None:
        self._log.append(f"{self.name}: wait for {event.queue.name}")
        self._ask(lambda: event.queue.advance(event.steps))

    def advance(self, steps: int | None = None) -> None:
        """Do what was asked for, up to this many steps since the beginning."""
        while self._done < (len(self._steps) if steps is None else steps):
            self._done += 1
            self._steps[self._done - 1]()

    def _ask(self, step: Callable[[], None]) -> None:
        self._steps.append(step)
        if not self._late:
            self.advance()


class StandInQueues:
    """Queues of the CPU.

    Args:
        late: names of the queues that do nothing before they must, of `loading` and `computing`.

    Attributes:
        log: what was asked of the queues, and when this process waited.
    """

    def __init__(self, late: Sequence[str] = ()) -> None:
        self.log: list[str] = []
        self.loading = StandInQueue("loading", self.log, late="loading" in late)
        self.computing = StandInQueue("computing", self.log, late="computing" in late)

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.full(tuple(shape), POISON, dtype=dtype)

    def wait_for(self, event: StandInEvent) -> None:
        self.log.append(f"process: wait for {event.queue.name}")
        event.queue.advance(event.steps)

    def wait_for_all(self) -> None:
        self.log.append("process: wait for all")
        self.loading.advance()
        self.computing.advance()

    def trim(self) -> None:
        self.log.append("process: trim")
