"""Threads that do the same to each of many things ahead of whoever asks for the outcomes, in order and bounded."""

import math
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")

# How soon threads that wait for room notice that the program ends, if nobody told them to stop.
_LOOK_UP_SECONDS = 1.0


def map_ahead(
    function: Callable[[Thing], Outcome],
    things: Iterable[Thing],
    *,
    threads: int,
    ahead: int,
    ahead_bytes: float = math.inf,
    bytes_of: Callable[[Outcome], int] = lambda _: 0,
) -> Generator[Outcome, None, None]:
    """Yield what a function makes of each thing, in order, from threads that work ahead by themselves.

    Args:
        function: what the threads do.
        things: what they do it to; asked for one at a time, from the threads.
        threads: how many.
        ahead: outcomes that may be ready or under way beyond the one that was asked for last.
        ahead_bytes: when ready outcomes take this much, nothing more is begun but what each thread has at hand.
        bytes_of: what an outcome takes.

    Raises:
        Exception: whatever the function or the things raise, in the place of that outcome.

    Example:
        >>> list(map_ahead(str.upper, "abc", threads=2, ahead=2))
        ['A', 'B', 'C']
    """
    work = _Work(function, things, threads, ahead, ahead_bytes, bytes_of)
    try:
        for number in range(threads):
            threading.Thread(target=work.run, name=f"load_{number}").start()
        while True:
            try:
                yield work.next_outcome()
            except StopIteration:
                return
    finally:
        # Without waiting: a run that is told to stop has seconds, and a slow drive may take longer.
        work.stop()


class _Work(Generic[Thing, Outcome]):
    """What the threads and the one who asks share."""

    def __init__(
        self,
        function: Callable[[Thing], Outcome],
        things: Iterable[Thing],
        threads: int,
        ahead: int,
        ahead_bytes: float,
        bytes_of: Callable[[Outcome], int],
    ) -> None:
        self._function, self._bytes_of = function, bytes_of
        self._things = iter(things)
        self._threads, self._ahead, self._ahead_bytes = threads, ahead, ahead_bytes
        self._lock = threading.Lock()
        # Threads wait for the one, who asks for the other.
        self._room, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._outcomes: dict[int, Outcome | BaseException] = {}
        self._ready_bytes = 0
        self._begun, self._asked, self._ends = 0, -1, False

    def run(self) -> None:
        """What each thread does until there is no more to do."""
        while (begun := self._begin()) is not None:
            index, thing = begun
            try:
                outcome: Outcome | BaseException = self._function(thing)
            except BaseException as error:  # whoever asks for it shall have it
                outcome = error
            self._keep(index, outcome)

    def next_outcome(self) -> Outcome:
        """Wait for the next one.

        Raises:
            StopIteration: there is none.
        """
        with self._lock:
            self._asked += 1
            self._room.notify_all()
            self._arrived.wait_for(
                lambda: self._asked in self._outcomes or (self._ends and self._asked >= self._begun)
            )
            if self._asked not in self._outcomes:
                raise StopIteration
            outcome = self._outcomes.pop(self._asked)
            if isinstance(outcome, BaseException):
                raise outcome
            self._ready_bytes -= self._bytes_of(outcome)
            return outcome

    def stop(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._ends = True
            self._outcomes.clear()
            self._room.notify_all()

    def _begin(self) -> tuple[int, Thing] | None:
        with self._lock:
            while not self._ends and not self._has_room():
                self._room.wait(_LOOK_UP_SECONDS)
                # Where the one who asks was forgotten, the end of the program must not wait for more.
                self._ends = self._ends or not threading.main_thread().is_alive()
            index = self._begun
            try:
                thing = None if self._ends else next(self._things, None)
            except BaseException as error:
                self._outcomes[index], self._begun, thing = error, index + 1, None
            if thing is None:
                self._ends = True
                self._room.notify_all()
                self._arrived.notify_all()
                return None
            self._begun += 1
            return index, thing

    def _has_room(self) -> bool:
        ahead = self._begun - self._asked
        return ahead <= min(self._ahead, self._threads) or (
            ahead <= self._ahead and self._ready_bytes < self._ahead_bytes
        )

    def _keep(self, index: int, outcome: Outcome | BaseException) -> None:
        with self._lock:
            if not isinstance(outcome, BaseException):
                self._ready_bytes += self._bytes_of(outcome)
            self._outcomes[index] = outcome
            if index == self._asked:
                self._arrived.notify_all()
