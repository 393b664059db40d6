"""Bundles of options that several commands share, made of what the settings declare."""

import dataclasses
import re
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource

from ensemble_eval.errors import InputError
from ensemble_eval.fields import checked_field, checked_value, rule_of, types_of
from ensemble_eval.settings import DISTRIBUTION, GROUPS, JobSettings, RunSettings, Settings

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]


class _PathType(click.Path):
    """A path that every format can write: not empty, and UTF-8."""

    def convert(self, value: Any, parameter: click.Parameter | None, _context: click.Context | None) -> Any:
        return checked_value(Path, f"`{parameter.name if parameter else 'path'}`", value)


PATH = _PathType()
_FIELD = re.compile(r"`(\w+)`")


def option_of(settings: type, name: str, **attributes: Any) -> Option[Any]:
    """The option for one field of settings, with the field's name, type, default and help.

    What is given is checked as the field is, so that `submit` refuses what its job would.

    Args:
        settings: the dataclass.
        name: of the field.
        attributes: further ones of `click.option`, or others in place of the field's own.
    """
    rule, default = rule_of(settings, name), getattr(settings, name)
    is_flag = isinstance(default, bool)
    declared: dict[str, Any] = {
        "help": _help_of(settings, name),
        "default": default,
        "allow_from_autoenv": rule.in_environment,
    }
    declared |= {"show_default": default is not None and not is_flag}
    declared |= {"is_flag": True} if is_flag else {"type": _click_type(types_of(settings)[name])}

    def check(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
        return checked_field(settings, name, value)

    return click.option(_spelling(name), **{"callback": check, **declared, **attributes})


def _spelling(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _help_of(settings: type, name: str) -> str:
    """A field's help, with the options of other fields for these."""
    text = rule_of(settings, name).help
    return _FIELD.sub(lambda match: _spelling(match[1]) if hasattr(settings, match[1]) else match[0], text)


def _click_type(expected: Any) -> Any:
    """How click parses what is declared as a type, or as this type or None."""
    kinds = [kind for kind in get_args(expected) if kind is not NoneType]
    if get_origin(expected) is Literal:
        return click.Choice(kinds)
    kind = expected if isinstance(expected, type) else kinds[0]
    return PATH if kind is Path else kind


FRESH = option_of(JobSettings, "fresh")


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
    groups = [group for group in GROUPS if group != DISTRIBUTION]
    return _with_options(command, click.argument("dataset", type=PATH), *_options_of(groups))


def distribution_options(settings: type) -> Option[Any]:
    """How a job spreads over processes, and how often each of them writes."""
    return lambda command: _with_options(command, *_options_of([DISTRIBUTION], settings))


def _options_of(groups: Iterable[str], settings: type = RunSettings) -> Iterator[Option[Any]]:
    """The options of a job that belong to some groups, in the order of these."""
    for group in groups:
        for field in dataclasses.fields(settings):
            if rule_of(settings, field.name).group == group:
                yield _SPELT.get(field.name) or option_of(settings, field.name)


def settings_from(options: dict[str, Any]) -> RunSettings:
    """The settings that `evaluation_options` and `distribution_options` parsed.

    Raises:
        InputError: options that exclude each other.
    """
    scores, no_cache = options.pop("scores"), options.pop("no_cache")
    if options["until_decided"] and scores == "all":
        raise InputError("--until-decided knows decisions and no scores; leave out --scores all")
    return RunSettings(store_scores=scores != "none", cache=not no_cache, **options)


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


def _with_options(command: Command, *options: Option[Any]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _require_default_manifest(context: click.Context, option: click.Parameter, value: str) -> Path:
    """Point to the option where the default, which only a clone has, is not there."""
    path: Path = checked_field(RunSettings, "ensemble", value)
    is_default = context.get_parameter_source(option.name or "") is ParameterSource.DEFAULT
    if is_default and not path.exists() and not context.resilient_parsing:
        raise InputError(
            f"there is no {path} in this folder (it is part of a clone of the repository); "
            "name your manifest or folder of checkpoints with --ensemble"
        )
    return path


# Fields whose options are not spelt as they are, or say more.
_SPELT: dict[str, Option[Any]] = {
    "ensemble": option_of(RunSettings, "ensemble", callback=_require_default_manifest),
    "store_scores": click.option(
        "--scores",
        type=click.Choice(["all", "none"]),
        help=f"{rule_of(Settings, 'store_scores').help}  [default: all]",
    ),
    "cache": click.option(
        "--no-cache",
        is_flag=True,
        help="Keep no converted networks between runs, and use none; see ENSEMBLE_EVAL_CACHE.",
    ),
}
