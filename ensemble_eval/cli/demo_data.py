"""`ensemble-eval demo-data`: draw a labelled data set."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.options import PATH, command
from ensemble_eval.cli.output import say

if TYPE_CHECKING:
    from ensemble_eval.demo_data.pictures import Split


@command("ensemble-eval demo-data val/ --split val --images 100", "demo-data")
@click.argument("directory", type=PATH)
@click.option(
    "--split",
    type=click.Choice(["train", "val"]),
    required=True,
    help="Training or validation pictures; they share none.",
)
@click.option("--images", type=int, required=True, help="Number of pictures to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed; the same seed draws the same pixels.")
@click.option("--workers", type=int, help="Drawing processes.  [default: one per processor]")
@click.option(
    "--boxes",
    is_flag=True,
    help="Also write the boxes of all objects, partly hidden ones too, to boxes.json (COCO).",
)
def demo_data(directory: Path, split: "Split", images: int, seed: int, workers: int | None, boxes: bool) -> None:
    """Draw a labelled picture data set into DIRECTORY, one folder per class.

    An interrupted drawing is completed by the same command.
    """
    from rich.console import Console

    from ensemble_eval.cli.progress import progress_updates
    from ensemble_eval.demo_data.writing import draw_dataset

    with progress_updates(Console(stderr=True, markup=False), images, units="pictures") as update:
        outcome = draw_dataset(directory, split, images, seed, workers, update, boxes=boxes)
    if outcome.drawn == 0:
        say(f"{directory} already holds all {outcome.found} pictures of this data set; nothing to draw.")
    elif outcome.found > 0:
        say(f"{directory} already held {outcome.found} of these pictures; drew the other {outcome.drawn}.")
    else:
        say(f"Drew {outcome.drawn} pictures into {directory}.")
