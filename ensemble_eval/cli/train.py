"""`ensemble-eval train`."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.output import say
from ensemble_eval.launch.cpu import wait_without_spinning

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.training.config import Recipe
    from ensemble_eval.training.job import Options
    from ensemble_eval.training.records import EpochRecord, Event, RunFinished


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--train-data", type=click.Path(path_type=Path), help="Training images.  [default: the config's]")
@click.option("--val-data", type=click.Path(path_type=Path), help="Validation images.  [default: the config's]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("checkpoints"),
    show_default=True,
    help="Weights, logs, training states and the ensemble's manifest.",
)
@click.option("--member", "members", multiple=True, help="Train this one; repeatable.  [default: all]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--workers", type=click.IntRange(0), help="Loading processes.  [default: 1 on a CPU, up to 16 on a GPU]"
)
@click.option("--fresh", is_flag=True, help="Start these members over, whatever is there.")
def train(
    config: Path,
    train_data: Path | None,
    val_data: Path | None,
    out: Path,
    members: tuple[str, ...],
    device: str,
    workers: int | None,
    fresh: bool,
) -> int:
    """Train the members of an ensemble as CONFIG describes, by the paper's recipe.

    Writes each member's averaged weights and log, and ensemble.toml for `run`, to --out. The same command
    continues an interrupted training. Start it with torchrun to use several GPUs.
    """
    wait_without_spinning()
    from rich.console import Console

    from ensemble_eval.training.config import read_recipe
    from ensemble_eval.training.job import Options

    console = Console(stderr=True, markup=False)
    recipe = _with_data(read_recipe(config), train_data, val_data)
    finished = _train(console, recipe, Options(out, members, device, workers, fresh))
    if finished.manifest is not None:
        say(f"written to {finished.manifest}")
    if not finished.unreadable:
        return 0
    console.print(
        f"warning: {finished.unreadable} unreadable images were left out; see {out / 'unreadable.csv'}",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )
    return 3


def _with_data(recipe: "Recipe", train_data: Path | None, val_data: Path | None) -> "Recipe":
    train, val = train_data or recipe.data.train, val_data or recipe.data.val
    return replace(recipe, data=replace(recipe.data, train=train, val=val))


def _train(console: "Console", recipe: "Recipe", options: "Options") -> "RunFinished":
    import contextlib

    from ensemble_eval.errors import InterruptedRunError
    from ensemble_eval.launch.signals import StopRequestedError, stop_requests
    from ensemble_eval.training.job import train as train_members
    from ensemble_eval.training.processes import joined_processes
    from ensemble_eval.training.records import RunFinished

    finished = RunFinished(None, 0)
    try:
        with (
            stop_requests(),
            joined_processes() as processes,
            _Reporter(console, processes.first) as reporter,
            contextlib.closing(train_members(recipe, options, processes)) as events,
        ):
            for event in events:
                reporter.report(event)
                if isinstance(event, RunFinished):
                    finished = event
    except StopRequestedError as request:
        command = shlex.join(["ensemble-eval", *(word for word in sys.argv[1:] if word != "--fresh")])
        raise InterruptedRunError(
            f"stopped by {request}; continue from the last saved step with: {command}", request.signal_number
        ) from request
    return finished


class _Reporter:
    """Tells of events: a line for each epoch, and on a terminal a bar of the member's steps below them."""

    def __init__(self, console: "Console", speaks: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._speaks = speaks
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (speaks and console.is_terminal),
        )
        self._console = console
        self._bar = self._progress.add_task("", total=None, loss=0.0, visible=False)
        self._name = ""

    def __enter__(self) -> "_Reporter":
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def report(self, event: "Event") -> None:
        """Show one event."""
        from ensemble_eval.training import records

        match event:
            case records.ImagesDecoded(images, seconds):
                self._print(f"{images} images decoded in {seconds:.0f} s")
            case records.MemberSkipped(name):
                self._print(f"{name}: already trained")
            case records.MemberStarted(name, step, steps, epochs):
                self._name = name
                self._print(
                    f"{name}: {epochs} epochs, {steps} steps" + (f", continued from {step}" if step else "")
                )
                self._progress.reset(self._bar, total=steps, completed=step, description=name, visible=True)
            case records.StepDone(step, loss):
                self._progress.update(self._bar, completed=step, loss=loss)
            case records.EpochDone(step, loss, record):
                self._progress.update(self._bar, completed=step, loss=loss)
                self._print(f"{self._name}: {_epoch_line(record)}")
            case records.MemberFinished(name, weights, _):
                self._print(f"{name}: written to {weights}")

    def _print(self, line: str) -> None:
        if self._speaks:
            self._console.print(line, highlight=False, soft_wrap=True)


def _epoch_line(record: "EpochRecord") -> str:
    line = f"epoch {record.epoch}, loss {record.train_loss:.3f}"
    if record.val_top1_error is not None and record.val_top5_error is not None:
        averaged = f" (mean of {record.averaged_iterates} iterates)" if record.averaged_iterates else ""
        line += f", error top-1 {record.val_top1_error:.2f}%, top-5 {record.val_top5_error:.2f}%{averaged}"
    return f"{line}, {record.images_per_second:.0f} images/s"
