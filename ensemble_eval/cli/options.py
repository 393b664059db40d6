"""Bundles of options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ensemble_eval.errors import InputError

Command = Callable[..., Any]
PATH = click.Path(path_type=Path)


def evaluation_options(command: Command) -> Command:
    """What `run` and `check` both need to know: the data set, the ensemble, the crops and the device."""
    for option in reversed(
        (
            click.argument("dataset", type=PATH),
            click.option(
                "--ensemble",
                type=PATH,
                default=Path("manifests/default.toml"),
                show_default=True,
                callback=_require_default_manifest,
                help="Manifest, or folder of checkpoints.",
            ),
            click.option("--models", type=int, help="Use the first N members.  [default: all]"),
            click.option(
                "--crops",
                type=int,
                default=144,
                show_default=True,
                help="Crop scheme: 1, 10 or 144; the smaller come along.",
            ),
            click.option("--labels", type=PATH, help="CSV file,label for a flat folder of images."),
            click.option(
                "--out", type=PATH, default=Path("results"), show_default=True, help="Folder for the results."
            ),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
            click.option(
                "--precision",
                type=click.Choice(["float32", "bfloat16", "float16"]),
                default="float32",
                show_default=True,
                help="Of the convolutions; softmax and sums are never in half precision.",
            ),
            click.option(
                "--backend",
                type=click.Choice(["auto", "torch", "compiled", "openvino"]),
                default="auto",
                show_default=True,
                help="What runs the networks; auto is openvino (the extra [cpu]) on a CPU, else torch.",
            ),
            click.option(
                "--batch-size",
                type=int,
                help="Crops per batch.  [default: by device, halved if needed]",
            ),
            click.option(
                "--workers", type=int, default=2, show_default=True, help="Threads that decode and resize."
            ),
            click.option(
                "--scores",
                type=click.Choice(["all", "none"]),
                help="Keep every mean softmax vector, or only ranks and top 5.  [default: all]",
            ),
            click.option(
                "--until-decided",
                is_flag=True,
                help="Run each image until its top-5 outcome is certain: the same top-5 table from fewer passes.",
            ),
            click.option("--top1", is_flag=True, help="With --until-decided: decide the top-1 columns too."),
            click.option("--trust-python", is_flag=True, help="Allow members that run installed code (python:…)."),
            # Not from the environment, where it would outlive the command that it was meant for.
            click.option(
                "--fresh",
                is_flag=True,
                allow_from_autoenv=False,
                help="Discard what an earlier run left in --out; not under a launcher.",
            ),
        )
    ):
        command = option(command)
    return command


def distribution_options(command: Command) -> Command:
    """How `run` spreads over processes, and how often each of them writes."""
    for option in reversed(
        (
            click.option(
                "--ranks", type=int, help="Processes on this machine.  [default: one for each GPU; 1 on the CPU]"
            ),
            click.option(
                "--save-every",
                type=float,
                default=30.0,
                show_default=True,
                callback=_require_finite,
                help="Seconds of work that a kill may cost.",
            ),
            click.option(
                "--timeout",
                type=float,
                default=600.0,
                show_default=True,
                callback=_require_finite,
                help="Seconds after which a process that stores nothing is given up; longer than --save-every.",
            ),
        )
    ):
        command = option(command)
    return command


def _require_default_manifest(context: click.Context, option: click.Parameter, path: Path) -> Path:
    """Point to the option where the default, which only a clone has, is not there."""
    is_default = context.get_parameter_source(option.name or "") is ParameterSource.DEFAULT
    if is_default and not path.exists() and not context.resilient_parsing:
        raise InputError(
            f"there is no {path} in this folder (it is part of a clone of the repository); "
            "name your manifest or folder of checkpoints with --ensemble"
        )
    return path


def _require_finite(_context: click.Context, option: click.Parameter, seconds: float) -> float:
    """For `submit` too, which hands the value on: click takes nan and inf for numbers."""
    if not math.isfinite(seconds):
        raise InputError(f"{option.opts[0]} is a number of seconds, not {seconds}")
    return seconds
