"""What the commands print, on any terminal: whatever characters its encoding has, and however narrow it is."""

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

# Of the characters that we print ourselves; anything else, as in the name of a member, is escaped.
_PLAIN = {"×": "x", "–": "-", "…": "...", "≠": "!="}
_PLAIN_CHARACTERS = "ensemble-eval-plain-characters"
# What stands for one quantity stays on one line.
_INTERVAL = re.compile(r"(?<=[\d%]) to (?=[-+\d])")
_GLUE = "\N{NO-BREAK SPACE}"


class Context(click.Context):
    """A command's context, whose help text any terminal can show."""

    class _Formatter(click.HelpFormatter):
        def getvalue(self) -> str:
            return encodable(super().getvalue(), sys.stdout.encoding)

    formatter_class = _Formatter


def print_in_any_encoding() -> None:
    """Let stdout and stderr replace the characters that their encoding lacks, in place of raising an error."""
    codecs.register_error(_PLAIN_CHARACTERS, _plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN_CHARACTERS)


def encodable(text: str, encoding: str) -> str:
    """`text` as it will look in an encoding, so that it can be measured before it is printed."""
    codecs.register_error(_PLAIN_CHARACTERS, _plain_characters)
    return text.encode(encoding, _PLAIN_CHARACTERS).decode(encoding)


def say(text: str) -> None:
    """Print a line to stdout."""
    # With the stream named: left to itself, click writes UTF-8 to a terminal whose encoding is ASCII.
    click.echo(text, file=sys.stdout)


def complain(text: str) -> None:
    """Print a line to stderr."""
    click.echo(text, file=sys.stderr)


def warn(sentence: str, console: "Console | None" = None) -> None:
    """Print to stderr what stops nothing and should be known.

    Args:
        sentence: it may be the library's, and speak of arguments.
        console: of a bar that may be there meanwhile.
    """
    from rich.console import Console

    console = console or Console(stderr=True, markup=False)
    console.print(f"warning: {spoken(sentence)}", style="yellow", highlight=False, soft_wrap=True)


def complain_of(error: EnsembleEvalError, who: str = "") -> None:
    """Print an error and its notes to stderr, as one sentence."""
    notes = getattr(error, "__notes__", ())
    complain(f"error: {who}{'; '.join([spoken(str(error)), *notes])}")


def print_sentence(console: "Console", text: str) -> None:
    """Print a sentence without cutting a number or an interval; into a file or pipe it goes as one line."""
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
