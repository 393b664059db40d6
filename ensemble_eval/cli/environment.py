"""Options that come from the environment, and the variables that were meant to be one of them."""

from collections.abc import Iterator, Mapping

import click

from ensemble_eval.errors import InputError
from ensemble_eval.jobs.process import PARENT_VARIABLE, find_process
from ensemble_eval.settings import CACHE_VARIABLE

PREFIX = "ENSEMBLE_EVAL"


def unknown_variables(group: click.Group, environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that looks like one of ours and that nothing reads.

    Of several processes only the one that speaks for all has anything to say.

    Args:
        group: the command line, with its commands.
        environment: names and values.
    """
    if not _speaks(environment):
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
    """Every option by the variable that click would read it from."""
    top = click.Context(group, auto_envvar_prefix=PREFIX)
    commands = [click.Context(command, top, info_name=name) for name, command in group.commands.items()]
    for context in (top, *commands):
        for parameter in context.command.params:
            if isinstance(parameter, click.Option) and parameter.name is not None:
                yield f"{context.auto_envvar_prefix}_{parameter.name.upper()}", parameter


def _speaks(environment: Mapping[str, str]) -> bool:
    try:
        return find_process(environment).reports
    except InputError:
        return True
