"""Shows progress as a bar on a terminal, and as plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

# The interval of the lines: the log stays short and its last line recent.
PLAIN_LINE_SECONDS = 10.0


class Update(Protocol):
    """A function that shows that `done` units are done, after `passes` passes since the start."""

    def __call__(self, done: int, passes: int = 0) -> None: ...  # noqa: D102 (see the class)


class Pace:
    """The pace of a job, and the time that is left.

    The work of other processes becomes visible only when it is stored, many images at a time. So the pace is that
    up to the last update, and the time since then is subtracted from the time left.

    Args:
        total: The number of images of the job.
        start: The number of images that an earlier start had done. They do not count for the pace.
        began: The start of the work, in seconds of a monotonic clock.
    """

    def __init__(self, total: int, start: int, began: float) -> None:
        self._total, self._start, self._began = total, start, began
        self._done, self._passes, self._moved = start, 0, began

    def update(self, done: int, passes: int, now: float) -> None:
        """Record that `done` images are done, after `passes` passes since the start."""
        if done > self._done:
            self._done, self._passes, self._moved = done, passes, now

    @property
    def is_known(self) -> bool:
        """Whether any image was done since the start."""
        return self._done > self._start

    @property
    def text(self) -> str:
        """The passes per second; empty if nothing is done yet, or for a job without members, which runs none."""
        return f"{self._passes / self._seconds:.0f} crops/s" if self._passes else ""

    def age(self, now: float) -> float:
        """Return the seconds since the last update."""
        return now - self._moved

    def seconds_left(self, now: float) -> float | None:
        """Return the time left; None if nothing is done yet, or if an update is overdue."""
        if self._done >= self._total:
            return 0.0
        if not self.is_known:
            return None
        left = self._seconds / (self._done - self._start) * (self._total - self._done) - self.age(now)
        return left if left > 0 else None

    @property
    def _seconds(self) -> float:
        return max(self._moved - self._began, 1e-9)


class PlainLines:
    """Prints `done/total`, the pace and the time left at intervals, and once at the end.

    Args:
        console: The console for the lines.
        total: The number of units of the job.
        start: The number of units that an earlier start had done. They do not count for the pace.
        units: What is counted, in the plural.
        clock: Returns seconds, monotonic.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        start: int,
        units: str = "images",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._total, self._units, self._clock = console, total, units, clock
        self._printed, self._ended = clock(), False
        self._pace = Pace(total, start, self._printed)

    def update(self, done: int, passes: int = 0) -> None:
        """Print a line if it is due."""
        now = self._clock()
        self._pace.update(done, passes, now)
        if self._ended or (now - self._printed < PLAIN_LINE_SECONDS and done < self._total):
            return
        self._printed, self._ended = now, done >= self._total
        self._console.print(f"{done}/{self._total} {self._units}, {self._rest(now)}", highlight=False)

    def _rest(self, now: float) -> str:
        if not self._pace.is_known and not self._ended:
            return "time left not known yet"
        left = self._pace.seconds_left(now)
        rest = f"nothing new for {duration(self._pace.age(now))}" if left is None else f"{duration(left)} left"
        return ", ".join(filter(None, (self._pace.text, rest)))


@contextmanager
def progress_updates(console: Console, total: int, start: int = 0, units: str = "images") -> Iterator[Update]:
    """Yield a function that shows progress, as a bar on a terminal and as plain lines elsewhere."""
    if not console.is_terminal:
        yield PlainLines(console, total, start, units).update
        return
    with bar(console, TextColumn("{task.fields[pace]}"), TextColumn("{task.fields[left]}")) as progress:
        task = progress.add_task(units, total=total, completed=start, pace="", left="-:--:--")
        pace = Pace(total, start, time.monotonic())

        def update(done: int, passes: int = 0) -> None:
            now = time.monotonic()
            pace.update(done, passes, now)
            left = pace.seconds_left(now)
            progress.update(
                task,
                completed=done,
                pace=pace.text,
                left="-:--:--" if left is None else duration(left),
            )

        yield update


def bar(console: Console, *columns: ProgressColumn) -> Progress:
    """Return a bar with the description, the count and further columns; it is hidden without a terminal."""
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *columns)
    return Progress(*shown, console=console, disable=not console.is_terminal)


def duration(seconds: float) -> str:
    """Format seconds as `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
