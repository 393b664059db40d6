"""Warns of environment variables that look like an option and are not."""

from collections.abc import Iterator, Mapping

import click

from ensemble_eval.errors import InputError
from ensemble_eval.jobs.process import PARENT_VARIABLE, find_process
from ensemble_eval.settings import CACHE_VARIABLE

PREFIX = "ENSEMBLE_EVAL"


def unknown_variables(group: click.Group, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable with our prefix that is not an option.

    Of several ranks, only the reporting one yields any.

    Args:
        group: The command line with its commands.
        environment: The environment variables.
    """
    if not any(name.startswith(f"{PREFIX}_") for name in environment) or not _speaks(environment):
        return
    options = dict(_options(group))
    known = {
        PARENT_VARIABLE,
        CACHE_VARIABLE,
        *(name for name, option in options.items() if option.allow_from_autoenv),
    }
    for name in sorted(environment):
        if not name.startswith(f"{PREFIX}_") or name in known:
            continue
        if name in options:
            yield f"{name} has no effect: {options[name].opts[0]} must be given on the command line"
        else:
            import difflib

            nearest = max(sorted(known), key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())
            yield f"{name} has no effect, no option has that name; the nearest is {nearest}"


def _options(group: click.Group) -> Iterator[tuple[str, click.Option]]:
    """Yield every option with the name of its environment variable in click."""
    top = click.Context(group, auto_envvar_prefix=PREFIX)
    found = {name: group.get_command(top, name) for name in group.list_commands(top)}
    commands = [click.Context(command, top, info_name=name) for name, command in found.items() if command]
    for context in (top, *commands):
        for parameter in context.command.params:
            if isinstance(parameter, click.Option) and parameter.name is not None:
                yield f"{context.auto_envvar_prefix}_{parameter.name.upper()}", parameter


def _speaks(environment: Mapping[str, str]) -> bool:
    try:
        return find_process(environment).is_reporting
    except InputError:
        return True
