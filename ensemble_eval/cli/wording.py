"""Translates arguments in messages of the library to options of the command line."""

import re

import click

from ensemble_eval.settings import OPTION_OF

_QUOTED = re.compile(r"`([^`]+)`")
# An argument as Python would write it, without quotes. Anything else in backticks is kept.
_ARGUMENT = re.compile(r"(\w+)(?:=(\"?)(.*)\2)?")


def spoken(text: str) -> str:
    """As `in_options`, for the running command; its messages may also name options of `run`."""
    context = click.get_current_context(silent=True)
    if context is None:
        return in_options(text)
    group = context.find_root().command
    if not isinstance(group, click.Group):
        return in_options(text, context.command)
    name = context.invoked_subcommand
    running = group.get_command(context, name) if name else context.command
    return in_options(text, *filter(None, (running, group.get_command(context, "run"))))


def in_options(text: str, *commands: click.Command) -> str:
    """Replace the arguments in backticks in a message by their options.

    >>> options = [click.Option(["--batch-size"]), click.Option(["--fresh"], is_flag=True)]
    >>> run = click.Command("run", params=options)
    >>> in_options("choose `batch_size=8`, or start over with `fresh=True`; `rank` is no option", run)
    'choose --batch-size 8, or start over with --fresh; rank is no option'

    Args:
        text: The message.
        commands: The first command that has an option or argument of a name determines its spelling.
    """
    parameters = {each.name: each for command in reversed(commands) for each in command.params}

    def said(match: re.Match[str]) -> str:
        words = match[1]
        if words in OPTION_OF:
            return f"--{OPTION_OF[words]}"
        argument = _ARGUMENT.fullmatch(words)
        name, value = argument.group(1, 3) if argument else ("", None)
        parameter = parameters.get(name)
        if isinstance(parameter, click.Argument):
            return name.upper()
        if not isinstance(parameter, click.Option) or (parameter.is_flag and value not in (None, "True")):
            return words
        option = parameter.opts[0]
        return option if value is None or parameter.is_flag else f"{option} {value}"

    return _QUOTED.sub(said, text)
