"""Creates the options of the commands from the settings, and formats `--help`."""

import dataclasses
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource

from ensemble_eval.cli.output import Context
from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields, checked_field, checked_value, rules_of, types_of
from ensemble_eval.settings import GROUPS, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Option = Callable[[Decorated], Decorated]
SettingsT = TypeVar("SettingsT", bound=CheckedFields)

_FIELD = re.compile(r"`(\w+)`")
# The options that everybody needs come first, in this order.
_FIRST = ("proposals", "ensemble", "crops", "out", "boxes")


class Command(click.Command):
    """A command whose help shows its options in sections, and its `epilog` as an example."""

    context_class = Context

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example without breaking its lines."""
        with formatter.section("Example"):
            for line in (self.epilog or "").splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def command(example: str, name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """As `click.command`, with an example for the help, in lines for the shell."""
    return click.command(name, cls=Command, epilog=example)


class _SectionedOption(click.Option):
    """An option in a section of the help."""

    def __init__(self, *words: Any, section: str, **attributes: Any) -> None:
        super().__init__(*words, **attributes)
        self.section = section


class _PathType(click.Path):
    """A path that is not empty and can be written as UTF-8 in every output file."""

    def convert(self, value: Any, parameter: click.Parameter | None, _context: click.Context | None) -> Any:
        return checked_value(Path, f"`{parameter.name if parameter else 'path'}`", value)


PATH = _PathType()


def options_of(settings: type, section: str = "Options", *, leaving_out: Container[str] = ()) -> Option[Any]:
    """Return a decorator that adds an option for each field with a help text.

    The values are checked like the fields, so that `submit` refuses what its job would refuse.

    Args:
        settings: The dataclass of the settings.
        section: The section of options that name none.
        leaving_out: Sections to leave out.
    """
    rules = rules_of(settings)
    names = [name for name, rule in rules.items() if rule.help and rule.group not in leaving_out]
    names.sort(key=lambda name: _place_in_help(name, rules[name].group))

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            command = _option_of(settings, name, rules[name].group or section)(command)
        return command

    return decorate


def _place_in_help(name: str, group: str) -> tuple[int, int]:
    """Return a sort key: the section and, in the first section, the position in `_FIRST`."""
    place = ("", *GROUPS).index(group)
    return place, _FIRST.index(name) if not place and name in _FIRST else len(_FIRST)


def _option_of(settings: type, name: str, section: str) -> Option[Any]:
    """Create the option for one field, with its name, type, default and help."""
    attributes: dict[str, Any] = {"cls": _SectionedOption, "section": section}
    if name in _SPELT:
        words, own = _SPELT[name]
        return click.option(words, **attributes, **own)
    rule = rules_of(settings)[name]
    [default] = [field.default for field in dataclasses.fields(settings) if field.name == name]
    attributes |= {"help": _help_of(settings, name), "metavar": rule.metavar}
    attributes |= {"callback": _checked_as(settings), "allow_from_autoenv": rule.in_environment}
    if default is dataclasses.MISSING:
        attributes["required"] = True
    else:
        attributes |= {"default": default, "show_default": default is not None and default is not False}
    attributes |= _type_of(types_of(settings)[name], default)
    words = _spelling(rule.spelling or name)
    return click.option(f"{words}/--no{words[1:]}" if default is True else words, name, **attributes)


def _checked_as(settings: type) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def check(context: click.Context, option: click.Parameter, value: Any) -> Any:
        name = option.name or ""
        if isinstance(value, str) and get_origin(types_of(settings)[name]) is tuple:
            value = [each.strip() for each in value.split(",") if each.strip()]
        checked = checked_field(settings, name, value)
        is_default = context.get_parameter_source(name) is ParameterSource.DEFAULT
        # The default manifests exist only in a clone.
        if name == "ensemble" and is_default and not checked.exists() and not context.resilient_parsing:
            raise InputError(
                f"there is no {checked} in this folder (it is part of a clone of the repository); "
                "name your manifest or folder of checkpoints with --ensemble"
            )
        return checked

    return check


def _spelling(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _help_of(settings: type, name: str) -> str:
    """Return the help of a field, in which options replace the names of other fields."""
    text = rules_of(settings)[name].help
    return _FIELD.sub(lambda match: _spelling(match[1]) if hasattr(settings, match[1]) else match[0], text)


def _type_of(expected: Any, default: Any) -> dict[str, Any]:
    """Return the attributes of an option for a type, or for this type or None."""
    kinds = [kind for kind in get_args(expected) if kind not in (NoneType, ...)]
    if expected is bool:
        return {"is_flag": True}
    if get_origin(expected) is Literal:
        return {"type": click.Choice(kinds)}
    if get_origin(expected) is tuple and get_origin(kinds[0]) is Literal:
        return {"type": str, "default": ",".join(default)}
    if get_origin(expected) is tuple:
        return {"type": PATH if kinds[0] is Path else kinds[0], "multiple": True, "show_default": False}
    kind = expected if isinstance(expected, type) else kinds[0]
    return {"type": PATH if kind is Path else kind}


def settings_from(kind: type[SettingsT], options: dict[str, Any]) -> SettingsT:
    """Create settings from the options of a command.

    Raises:
        InputError: The options exclude each other.
    """
    if "scores" in options:
        scores = options.pop("scores")
        if options["until_decided"] and scores == "all":
            raise InputError("--until-decided stores decisions and no scores; leave out --scores all")
        options["store_scores"] = scores != "none"
    if "no_cache" in options:
        options["cache"] = not options.pop("no_cache")
    return kind(**options)


def words_given(context: click.Context, leaving_out: Container[str]) -> Iterator[str]:
    """Yield the given arguments and options, also those from the environment, as words of a command line."""
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
            # An environment variable may also switch a flag off.
            yield parameter.opts[0]


MARGIN = click.option(
    "--margin",
    type=float,
    default=0.5,
    show_default=True,
    help="Errors that differ by less count as equal (percentage points).",
)

CLUSTER = click.option(
    "--cluster", type=PATH, help="CSV image,group. Images of one group are dependent, such as near-duplicates."
)

# Fields whose options have other names and values.
_SPELT: dict[str, tuple[str, dict[str, Any]]] = {
    "store_scores": (
        "--scores",
        {
            "type": click.Choice(["all", "none"]),
            "help": f"{rules_of(Settings)['store_scores'].help}  [default: all]",
        },
    ),
    "cache": (
        "--no-cache",
        {
            "is_flag": True,
            "help": "Keep no converted networks between runs, and use none; see ENSEMBLE_EVAL_CACHE.",
        },
    ),
}
