"""Prints on any terminal, whatever its encoding and width."""

import codecs
import io
import re
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.wording import spoken
from ensemble_eval.errors import EnsembleEvalError

if TYPE_CHECKING:
    from rich.console import Console

# Replacements for characters in our own messages. Others, such as those in the name of a member, are escaped.
_PLAIN = {"×": "x", "–": "-", "…": "...", "≠": "!="}
_PLAIN_CHARACTERS = "ensemble-eval-plain-characters"
# The bounds of an interval stay on one line.
_INTERVAL = re.compile(r"(?<=[\d%]) to (?=[-+\d])")
_GLUE = "\N{NO-BREAK SPACE}"


class Context(click.Context):
    """The context of a command, whose help can be shown in any encoding."""

    class _Formatter(click.HelpFormatter):
        def getvalue(self) -> str:
            return encodable(super().getvalue(), sys.stdout.encoding)

    formatter_class = _Formatter


def print_in_any_encoding() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, instead of raising an error."""
    codecs.register_error(_PLAIN_CHARACTERS, _plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN_CHARACTERS)


def encodable(text: str, encoding: str) -> str:
    """Return `text` as it will be printed in an encoding, so that its width can be measured."""
    codecs.register_error(_PLAIN_CHARACTERS, _plain_characters)
    return text.encode(encoding, _PLAIN_CHARACTERS).decode(encoding)


def say(text: str) -> None:
    """Print a line to stdout."""
    # The stream is given, because click would otherwise write UTF-8 to a terminal whose encoding is ASCII.
    click.echo(text, file=sys.stdout)


def complain(text: str) -> None:
    """Print a line to stderr."""
    click.echo(text, file=sys.stderr)


def warn(sentence: str, console: "Console | None" = None) -> None:
    """Print a warning to stderr.

    Args:
        sentence: The warning, which may come from the library and name arguments.
        console: The console of a progress bar that is shown at the same time.
    """
    from rich.console import Console

    console = console or Console(stderr=True, markup=False)
    console.print(f"warning: {spoken(sentence)}", style="yellow", highlight=False, soft_wrap=True)


def complain_of(error: EnsembleEvalError, who: str = "") -> None:
    """Print an error with its notes to stderr, as one sentence."""
    notes = getattr(error, "__notes__", ())
    complain(f"error: {who}{'; '.join([spoken(str(error)), *notes])}")


def print_sentence(console: "Console", text: str) -> None:
    """Print a sentence, wrapped between words on a terminal, and as one line into a file or pipe."""
    if console.is_terminal:
        glued = _INTERVAL.sub(f"{_GLUE}to{_GLUE}", text)
        lines = textwrap.wrap(glued, console.width, break_long_words=False, break_on_hyphens=False)
        text = "\n".join(lines).replace(_GLUE, " ")
    console.print(text, highlight=False, soft_wrap=True)


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(
        _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode() for character in lacking
    ), error.end
