"""`ensemble-eval train`."""

import contextlib
from pathlib import Path
from typing import Any

import click

from ensemble_eval.cli.options import PATH, command, options_of
from ensemble_eval.cli.output import say, warn
from ensemble_eval.errors import UNREADABLE_EXIT_CODE
from ensemble_eval.jobs.cpu import keep_freed_memory, wait_without_spinning
from ensemble_eval.settings import TrainingSettings

# Less than the 30 seconds that torchrun and Slurm wait by default before they kill a process.
_STOPPING_SECONDS = 5.0


@command("ensemble-eval train recipe.toml --train-data train/ --val-data val/")
@click.argument("config", type=PATH)
@click.option("--train-data", type=PATH, help="Training images.  [default: the config's]")
@click.option("--val-data", type=PATH, help="Validation images.  [default: the config's]")
@options_of(TrainingSettings)
def train(config: Path, train_data: Path | None, val_data: Path | None, **options: Any) -> int:
    """Train the members of an ensemble as CONFIG describes, by the paper's recipe.

    Writes each member's averaged weights and log, and ensemble.toml for `run`, to --out. The same command
    continues an interrupted training. Start it with torchrun to use several GPUs.
    """
    wait_without_spinning()
    keep_freed_memory()
    from ensemble_eval.cli.drawing import draw_training
    from ensemble_eval.cli.interruption import continuing_command, stoppable
    from ensemble_eval.jobs.devices import choose_device
    from ensemble_eval.jobs.signals import ends_within
    from ensemble_eval.training.config import read_recipe
    from ensemble_eval.training.job import train as train_members
    from ensemble_eval.training.processes import joined_processes

    recipe = read_recipe(config).with_data(train_data, val_data)
    settings = TrainingSettings(**options)
    go_on = f"continue from the last saved step with: {continuing_command()}"
    with (
        stoppable(go_on),
        ends_within(_STOPPING_SECONDS, f"stopped, although something did not answer; {go_on}"),
        joined_processes(device_type=choose_device(settings.device).type) as processes,
        contextlib.closing(train_members(recipe, settings, processes)) as events,
    ):
        finished = draw_training(events, speaks=processes.is_reporting)
    if finished.manifest is not None:
        say(f"written to {finished.manifest}")
    if not finished.unreadable:
        return 0
    warn(f"{finished.unreadable} unreadable images were left out; see {settings.out / 'unreadable.csv'}")
    return UNREADABLE_EXIT_CODE
