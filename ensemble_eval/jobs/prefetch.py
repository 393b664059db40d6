"""Decodes and resizes images in threads ahead of the engine, in order and within limits."""

import contextlib
import itertools
import math
import re
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.datasets.items import Item
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, memory_errors_of
from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.jobs.signals import StopRequests

Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")

# How often waiting threads check whether the program has ended without stopping them.
_LOOK_UP_SECONDS = 1.0
_SILENCES = itertools.count()


def load_images(
    items: Iterable[tuple[int, Item]],
    rule: CropRule,
    *,
    workers: int,
    ahead: int,
    ahead_bytes: float = math.inf,
    pinned: bool = False,
) -> Generator[ReadyImage | UnreadableImage, None, None]:
    """Load every item in order, and yield it ready to be cut or as unreadable.

    Args:
        items: The items, each with its position in the data set.
        rule: The crops that the members see.
        workers: The number of threads. Pillow and torch release the interpreter lock (docs/speed.md).
        ahead: The number of images that may be ready or in progress before they are requested.
        ahead_bytes: When the pixels of ready images take this much memory, each thread starts at most one more.
        pinned: Put pixels into pinned memory, from which a GPU copies while it computes, if it is available.
    """

    def load(item: tuple[int, Item]) -> ReadyImage | UnreadableImage:
        return load_image(*item, rule, pinned=pinned)

    loaded = prefetched(load, items, threads=workers, ahead=ahead, ahead_bytes=ahead_bytes, bytes_of=pixel_bytes)
    with pillow_silenced(), contextlib.closing(loaded):
        yield from loaded


def pixel_bytes(image: ReadyImage | UnreadableImage) -> int:
    """Return the size of the pixels of a loaded image."""
    return image.source.pixels.nbytes if isinstance(image, ReadyImage) else 0


def interruptible(arriving: Iterator[Thing], stop: StopRequests) -> Iterator[Thing]:
    """Yield things as they arrive. A stop request interrupts the wait, even in a `deferred` block."""
    while True:
        with stop.at_once():
            thing = next(arriving, None)
        if thing is None:
            return
        yield thing


@contextlib.contextmanager
def pillow_silenced() -> Iterator[None]:
    """Ignore Pillow's warnings of odd metadata and sizes in the block: what matters of it is checked on decoding.

    The filter belongs to the process, not to the worker that decodes. Its pattern has a number of its own, so
    that what is taken away afterwards is this block's filter and no other's, several runs at once included.
    """
    pattern = rf"PIL\.(?#{next(_SILENCES)})"
    warnings.filterwarnings("ignore", module=pattern)
    try:
        yield
    finally:
        added = ("ignore", None, Warning, re.compile(pattern), 0)
        # The caller may have put back other filters meanwhile, as `warnings.catch_warnings` does.
        with contextlib.suppress(ValueError):
            warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list, though the stub says less


def load_image(position: int, item: Item, rule: CropRule, *, pinned: bool = False) -> ReadyImage | UnreadableImage:
    """Read, decode and resize one image for the crops of a rule."""
    try:
        image = pixels.decode(item.read())
        _, height, width = image.shape
        source = pixels.prepare(image, rule.plan(width, height))
    except UnreadableImageError as error:
        return UnreadableImage(item.id, str(error))
    return ReadyImage(position, item.id, item.label, _pinned(source, item.id) if pinned else source)


def _pinned(source: pixels.CropSource, image: str) -> pixels.CropSource:
    """Pin the source, or return it unchanged if no memory can be pinned, which makes only copying slower."""
    try:
        with memory_errors_of(image):
            return source.pinned()
    except OutOfDeviceMemoryError:
        return source


def prefetched(
    function: Callable[[Thing], Outcome],
    things: Iterable[Thing],
    *,
    threads: int,
    ahead: int,
    ahead_bytes: float = math.inf,
    bytes_of: Callable[[Outcome], int] = lambda _: 0,
) -> Generator[Outcome, None, None]:
    """Apply a function to each thing in threads that work ahead, and yield the outcomes in order.

    Args:
        function: The function; it is called from the threads.
        things: Its arguments; they are taken one at a time, from the threads.
        threads: The number of threads.
        ahead: The number of outcomes that may be ready or in progress beyond the last requested one.
        ahead_bytes: When ready outcomes take this much memory, threads complete what they have started and wait.
        bytes_of: Returns the size of an outcome.

    Raises:
        Exception: Whatever the function or the iterator of things raises, in place of that outcome.

    Example:
        >>> list(prefetched(str.upper, "abc", threads=2, ahead=2))
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
        # Threads are not joined: a run that is told to stop has seconds, and a slow drive may take longer.
        work.stop()


class _Work(Generic[Thing, Outcome]):
    """The state shared by the threads and the consumer."""

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
        # Threads wait for the first condition, the consumer for the second.
        self._may_begin, self._arrived = threading.Condition(self._lock), threading.Condition(self._lock)
        self._outcomes: dict[int, Outcome | BaseException] = {}
        self._ready_bytes = 0
        self._begun, self._asked, self._ends = 0, -1, False

    def run(self) -> None:
        """Run one thread until there are no more things."""
        while (begun := self._begin()) is not None:
            index, thing = begun
            try:
                outcome: Outcome | BaseException = self._function(thing)
            except BaseException as error:  # raised where the outcome is requested
                outcome = error
            self._keep(index, outcome)

    def next_outcome(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            StopIteration: There are no more outcomes.
        """
        with self._lock:
            self._asked += 1
            self._may_begin.notify_all()
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
        """Start nothing more."""
        with self._lock:
            self._ends = True
            self._outcomes.clear()
            self._may_begin.notify_all()

    def _begin(self) -> tuple[int, Thing] | None:
        with self._lock:
            while not self._ends and not self._within_limits():
                self._may_begin.wait(_LOOK_UP_SECONDS)
                # If the consumer was abandoned, the end of the program must not wait for more.
                self._ends = self._ends or not threading.main_thread().is_alive()
            index = self._begun
            try:
                thing = None if self._ends else next(self._things, None)
            except BaseException as error:
                self._outcomes[index], self._begun, thing = error, index + 1, None
            if thing is None:
                self._ends = True
                self._may_begin.notify_all()
                self._arrived.notify_all()
                return None
            self._begun += 1
            return index, thing

    def _within_limits(self) -> bool:
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
