"""Finished images on their way to a store: collected into parts, which are written beside the work."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ensemble_eval.results.parts import Execution, Part
from ensemble_eval.results.store import Store

# A part is written when it holds this many images or has been open this long: what a crash can cost.
_PART_IMAGES = 256
SAVE_EVERY_SECONDS = 30.0


class PartBuffer:
    """Collects finished images and writes them to a store as parts, one at a time, in a thread of its own.

    The next part is not handed to that thread before the last is on the disk, so a crash costs the work of
    `save_every` seconds and of the time that writing takes, as it would if nothing went on meanwhile.

    Args:
        store: where the parts go.
        execution: what runs the images at the moment.
        clock: seconds, monotonic.
        save_every: seconds after which a part is written however small it is.
    """

    def __init__(
        self,
        store: Store,
        execution: Callable[[], Execution],
        clock: Callable[[], float] = time.monotonic,
        save_every: float = SAVE_EVERY_SECONDS,
    ) -> None:
        self._store = store
        self._execution = execution
        self._save_every = save_every
        self._clock = clock
        self._part = Part()
        self._opened = clock()
        self._writing = _done()

    def add(self, image: str, rows: Iterable[dict[str, Any]], passes: int, all_passes: int) -> None:
        """Take one evaluated image's rows, with the passes that it took and would have taken in full."""
        self._part.rows.extend(rows)
        self._part.images.append(image)
        if (execution := self._execution()) not in self._part.executions:
            self._part.executions.append(execution)
        self._part.passes += passes
        self._part.all_passes += all_passes

    def add_unreadable(self, image: str, reason: str) -> None:
        """Take note of an image without a result."""
        self._part.unreadable[image] = reason

    def write_if_due(self) -> None:
        """Begin to write a part if it is large or old enough, and report what became of the last.

        Raises:
            InputError: the last one could not be written; see `Store.write`.
        """
        if self._writing.done():
            self._wait()
        size = len(self._part.images) + len(self._part.unreadable)
        if size >= _PART_IMAGES or self._clock() - self._opened > self._save_every:
            self._begin_writing()

    def write(self) -> None:
        """Write what there is, and return when it is on the disk; see `Store.write` for errors."""
        try:
            self._begin_writing()
        finally:
            self._wait()

    def _begin_writing(self) -> None:
        """Hand the part to the thread once the last one is written; that one's error comes from here."""
        part, self._part = self._part, Part()
        part.seconds, self._opened = self._clock() - self._opened, self._clock()
        try:
            self._wait()
        finally:
            self._writing = _in_thread(self._store, part)

    def _wait(self) -> None:
        """Wait for the part that is being written; what it fails with is raised once."""
        writing, self._writing = self._writing, _done()
        writing.result()


def _in_thread(store: Store, part: Part) -> Future[None]:
    """The writing of a part, begun; it is done at once where there is nothing in it."""
    if not part.images and not part.unreadable:
        return _done()
    executor = ThreadPoolExecutor(1, thread_name_prefix="write")
    try:
        return executor.submit(store.write, part)
    finally:
        # The thread ends when it is through, which the end of the program waits for.
        executor.shutdown(wait=False)


def _done() -> Future[None]:
    future = Future[None]()
    future.set_result(None)
    return future
