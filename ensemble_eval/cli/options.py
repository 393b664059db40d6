"""Bundles of options that several commands share; their defaults and choices are those of the settings."""

from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ensemble_eval.crops.schemes import SCHEMES
from ensemble_eval.errors import InputError
from ensemble_eval.settings import (
    BACKENDS,
    LAYOUTS,
    PRECISIONS,
    SUBSET_CLASSES,
    RunSettings,
    Settings,
    decided_k,
    require_seconds,
)

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]
PATH = click.Path(path_type=Path)


def option_of(settings: type, name: str, help_text: str, **attributes: Any) -> Option[Any]:
    """The option for one field of settings, with the field's name and default.

    Args:
        settings: the dataclass.
        name: of the field.
        help_text: what `--help` says.
        attributes: further ones of `click.option`.
    """
    default = getattr(settings, name)
    shown = default is not None and not isinstance(default, bool)
    attributes = {"default": default, "show_default": shown, "help": help_text, **attributes}
    return click.option(f"--{name.replace('_', '-')}", **attributes)


# Not from the environment, where it would outlive the command that it was meant for.
FRESH: Option[Any] = click.option(
    "--fresh",
    is_flag=True,
    help="Discard what an earlier run left in --out; not under a launcher.",
    allow_from_autoenv=False,
)


def _require_seconds(_context: click.Context, option: click.Parameter, seconds: float) -> float:
    """For `submit` too, which hands the value on: click takes nan and inf for numbers."""
    require_seconds(**{option.name or "": seconds})
    return seconds


SAVE_EVERY = option_of(
    Settings, "save_every", "Write finished images at least this often (seconds).", callback=_require_seconds
)


def detection_options(command: Command) -> Command:
    """What every command on regions needs to know: images, proposals and classifiers."""
    return _with_options(
        command,
        click.argument("dataset", type=PATH),
        click.option("--proposals", type=PATH, required=True, help="What `propose` wrote for DATASET."),
        click.option(
            "--ensemble",
            type=PATH,
            default=Path("manifests/detection.toml"),
            show_default=True,
            help="Region classifiers: manifest, or folder of checkpoints.",
        ),
    )


def evaluation_options(command: Command) -> Command:
    """What `run` and `check` both need to know: the data set, the ensemble, the crops and the device."""
    return _with_options(
        command,
        click.argument("dataset", type=PATH),
        _run_option(
            "ensemble", "Manifest, or folder of checkpoints.", type=PATH, callback=_require_default_manifest
        ),
        _run_option("models", "Use only the first N members.  [default: all]", type=int),
        _run_option(
            "crops",
            f"Largest crop scheme: {', '.join(map(str, SCHEMES[:-1]))} or {SCHEMES[-1]}. Smaller are included.",
        ),
        _run_option(
            "labels",
            "Labels of the images: CSV file,label, Caffe's val.txt, Kaggle's CSV, JSON list of lists, or ILSVRC's "
            "devkit; none for images without.  [default: what lies in DATASET]",
            type=PATH,
        ),
        _run_option("layout", "How to read DATASET.", type=click.Choice(LAYOUTS)),
        _run_option(
            "blacklist", "Leave out the validation images at these places (one a line, from 1).", type=PATH
        ),
        _run_option(
            "subset_classes",
            "Rank labels among all classes, or among those that DATASET has images of.",
            type=click.Choice(SUBSET_CLASSES),
        ),
        _run_option("limit", "Take only the first N images, by id.", type=int),
        _run_option("sample", "Take only N images, drawn with --seed.", type=int),
        _run_option("seed", "Of --sample.  [default: 0]", type=int),
        _run_option("out", "Folder for the results.", type=PATH),
        _run_option("device", "auto, cpu, cuda or cuda:N."),
        _run_option(
            "precision",
            "Precision of the convolutions. Softmax and sums are never in half precision.",
            type=click.Choice(PRECISIONS),
        ),
        _run_option(
            "backend",
            "What runs the networks; auto is openvino (the extra [cpu]) on a CPU, else torch.",
            type=click.Choice(("auto", *BACKENDS)),
        ),
        _run_option("batch_size", "Crops per batch.  [default: by device, halved if needed]", type=int),
        _run_option(
            "workers",
            "Threads that decode and resize.  [default: the usable processors, shared among ranks, less one]",
            type=int,
        ),
        click.option(
            "--scores",
            type=click.Choice(["all", "none"]),
            help="Keep every mean softmax vector, or only ranks and top 5.  [default: all]",
        ),
        _run_option(
            "surface",
            "Also keep what every number of models and crops would decide, for `Results.surface`: 2 bytes each.",
            is_flag=True,
        ),
        click.option(
            "--until-decided",
            is_flag=True,
            help="Run each image until its top-5 outcome is certain: the same top-5 table from fewer passes.",
        ),
        click.option("--top1", is_flag=True, help="With --until-decided: decide the top-1 columns too."),
        click.option(
            "--no-cache",
            is_flag=True,
            help="Keep no converted networks between runs, and use none; see ENSEMBLE_EVAL_CACHE.",
        ),
        _run_option("trust_python", "Allow members that run installed code (python:…).", is_flag=True),
        FRESH,
    )


def distribution_options(command: Command) -> Command:
    """How `run` spreads over processes, and how often each of them writes."""
    return _with_options(
        command,
        _run_option("ranks", "Processes on this machine.  [default: one for each GPU; 1 on the CPU]", type=int),
        SAVE_EVERY,
        _run_option(
            "live",
            "Every minute write the table of the images that are done to partial.csv and .md.",
            is_flag=True,
        ),
        _run_option(
            "timeout",
            "Seconds after which a process that stores nothing is given up; longer than --save-every.",
            callback=_require_seconds,
        ),
    )


def settings_from(options: dict[str, Any]) -> RunSettings:
    """The settings that `evaluation_options` and `distribution_options` parsed.

    Raises:
        InputError: options that exclude each other.
    """
    scores, until_decided, top1 = (options.pop(name) for name in ("scores", "until_decided", "top1"))
    if until_decided and scores == "all":
        raise InputError("--until-decided knows decisions and no scores; leave out --scores all")
    options["cache"] = not options.pop("no_cache")
    decides = decided_k(until_decided=until_decided, top1=top1)
    return RunSettings(with_scores=scores != "none" and not until_decided, decides=decides, **options)


def words_given(context: click.Context, leaving_out: Container[str]) -> Iterator[str]:
    """What was given, also in the environment, as words of a command line, but what is to be left out."""
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        given = context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
        if not given or name in leaving_out:
            continue
        if isinstance(parameter, click.Argument):
            yield str(value)
        elif isinstance(parameter, click.Option) and not parameter.is_flag:
            yield from (parameter.opts[0], str(value))
        elif value:
            # In the environment a flag may also be said to be off.
            yield parameter.opts[0]


def _run_option(name: str, help_text: str, **attributes: Any) -> Option[Any]:
    return option_of(RunSettings, name, help_text, **attributes)


def _with_options(command: Command, *options: Option[Any]) -> Command:
    for option in reversed(options):
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
