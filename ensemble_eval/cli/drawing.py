"""Shows the events of a job or a training as lines, with a bar below them."""

import contextlib
import math
import time
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from ensemble_eval.cli.output import warn
from ensemble_eval.cli.progress import bar, progress_updates
from ensemble_eval.jobs.job import Event, Finished, Notice, Opened, Progress
from ensemble_eval.training import records

Outcome = TypeVar("Outcome")

_READ_EVERY_SECONDS = 0.5


def draw_job(events: Iterable[Event[Outcome]]) -> Finished[Outcome] | None:
    """Show the events of a job, and return the last; None if another process reports the outcome."""
    console = Console(stderr=True, markup=False)
    with contextlib.ExitStack() as bars:
        for event in events:
            match event:
                case Notice(sentence):
                    warn(sentence, console)
                case Opened(lines, done, images, units):
                    for line in lines:
                        console.print(line, highlight=False, soft_wrap=True)
                    if done:
                        console.print(f"continuing: {done} {units} were done before", highlight=False)
                    update = bars.enter_context(progress_updates(console, images, done, units))
                case Progress(images_done=images_done, passes=passes):
                    update(images_done, passes)
                case Finished():
                    return event
    return None


def draw_training(events: Iterable[records.Event], *, speaks: bool) -> records.RunFinished:
    """Show the events of a training, and return the last.

    Args:
        events: The events.
        speaks: Whether this process reports for all ranks.
    """
    console = Console(stderr=True, markup=False, quiet=not speaks)
    finished = records.RunFinished(None, 0)
    with bar(console, TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=None, loss=0.0, visible=False)
        member, read = "", -math.inf
        for event in events:
            for line in _training_lines(event, member):
                console.print(line, highlight=False, soft_wrap=True)
            match event:
                case records.MemberStarted(member, step, steps):
                    progress.reset(task, total=steps, completed=step, description=member, visible=True)
                case records.StepDone(step):
                    progress.update(task, completed=step)
                    # Reading the loss waits for the device, so it is read no more often than the bar is drawn.
                    if speaks and time.monotonic() - read >= _READ_EVERY_SECONDS:
                        progress.update(task, loss=event.loss)
                        read = time.monotonic()
                case records.RunFinished():
                    finished = event
    return finished


def _training_lines(event: records.Event, member: str) -> Iterable[str]:
    match event:
        case records.Line(text):
            yield text
        case records.MemberStarted(name, step, steps, epochs):
            yield f"{name}: {epochs} epochs, {steps} steps" + (f", continued from {step}" if step else "")
        case records.EpochDone(record=record):
            yield f"{member}: {_epoch_line(record)}"


def _epoch_line(record: records.EpochRecord) -> str:
    line = f"epoch {record.epoch}, loss {record.train_loss:.3f}"
    if record.val_top1_error is not None and record.val_top5_error is not None:
        averaged = f" (mean of {record.averaged_iterates} iterates)" if record.averaged_iterates else ""
        line += f", error top-1 {record.val_top1_error:.2f}%, top-5 {record.val_top5_error:.2f}%{averaged}"
    return f"{line}, {record.images_per_second:.0f} images/s"
