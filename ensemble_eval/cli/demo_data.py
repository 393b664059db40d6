"""`ensemble-eval demo-data`: draw a labelled data set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.output import complain, say

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.demo_data.pictures import Split
    from ensemble_eval.demo_data.writing import DrawnDataset

_PLAIN_LINES = 10


@click.command("demo-data")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "val"]), required=True, help="Which of two disjoint worlds.")
@click.option("--images", type=int, required=True, help="How many pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same pixels.")
@click.option("--workers", type=int, help="Drawing processes.  [default: one per processor]")
def demo_data(directory: Path, split: "Split", images: int, seed: int, workers: int | None) -> None:
    """Draw a labelled picture data set into DIRECTORY, one folder per class.

    An interrupted drawing is completed by the same command.
    """
    from rich.console import Console

    from ensemble_eval.demo_data.writing import draw_dataset

    with _progress(Console(stderr=True, markup=False), images) as on_progress:
        outcome = draw_dataset(directory, split, images, seed, workers, on_progress)
    say(_outcome_sentence(directory, outcome))


def _outcome_sentence(directory: Path, outcome: "DrawnDataset") -> str:
    if outcome.drawn == 0:
        return f"{directory} already holds all {outcome.found} pictures of this data set; nothing to draw."
    if outcome.found > 0:
        return f"{directory} already held {outcome.found} of these pictures; drew the other {outcome.drawn}."
    return f"Drew {outcome.drawn} pictures into {directory}."


@contextmanager
def _progress(console: "Console", images: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere ten plain lines, which logs can keep."""
    if not console.is_terminal:
        yield _plain_lines
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("drawing", total=max(images, 1))
        yield lambda finished, _: progress.update(task, completed=finished)


def _plain_lines(finished: int, images: int) -> None:
    if finished == images or finished * _PLAIN_LINES // images > (finished - 1) * _PLAIN_LINES // images:
        complain(f"drawing: {finished} of {images} pictures")
