"""Progress on a terminal as a bar, elsewhere as plain lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# One line in this many seconds keeps a job's log short and its last line recent.
PLAIN_LINE_SECONDS = 10.0

Update = Callable[[int, int], None]


@dataclass
class PlainLines:
    """Prints `done/total`, the pace and the time left, now and then.

    Attributes:
        console: where the lines go.
        total: images of the whole run.
        start: images that an earlier run had done; they do not count for the pace.
        clock: seconds, monotonic.
    """

    console: Console
    total: int
    start: int
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _printed: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._printed = self.clock()

    def update(self, done: int, passes: int) -> None:
        """Tell that `done` images are done, with `passes` crops through members since the start."""
        now = self.clock()
        if now - self._printed < PLAIN_LINE_SECONDS and done < self.total:
            return
        self._printed = now
        seconds = max(now - self._began, 1e-9)
        left = seconds / max(done - self.start, 1) * (self.total - done)
        self.console.print(
            f"{done}/{self.total} images, {passes / seconds:.0f} crops/s, {duration(left)} left", highlight=False
        )


@contextmanager
def progress_updates(console: Console, total: int, start: int) -> Iterator[Update]:
    """Give a function to call with images done and passes run; it draws a bar where there is a terminal."""
    if not console.is_terminal:
        yield PlainLines(console, total, start).update
        return
    columns = (
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("images", total=total, completed=start, pace="")
        began = time.monotonic()

        def update(done: int, passes: int) -> None:
            pace = f"{passes / max(time.monotonic() - began, 1e-9):.0f} crops/s"
            progress.update(task, completed=done, pace=pace)

        yield update


def duration(seconds: float) -> str:
    """Seconds as `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
