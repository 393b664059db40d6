"""The command line. Only the command that is called is imported, and torch only inside it: --help is instant."""

import atexit
import gc
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from ensemble_eval import __version__
from ensemble_eval.cli.environment import PREFIX, unknown_variables
from ensemble_eval.cli.output import Context, complain, complain_of, print_in_any_encoding, warn
from ensemble_eval.errors import STOPPED_EXIT_CODES, EnsembleEvalError

__all__ = ["cli", "main", "run_command_line"]

_COMMANDS = {
    "run": "Evaluate an ensemble on images and write Table 3.",
    "submit": "Submit a run as a batch job to Slurm or Kubernetes.",
    "status": "Show how much of a job is done.",
    "merge": "Bring the results of one job from several folders together.",
    "report": "Write tables, plots and a page about a run.",
    "compare": "Compare two or more runs over the same images.",
    "check": "Check everything that a run needs, and print what it would cost.",
    "inspect": "Say what a file of weights is and how it will be read.",
    "convert": "Write a file of weights as safetensors that describe themselves.",
    "crops": "Write the crops of an image as pictures.",
    "describe": "Print Table 1 of the paper, counted on the network itself.",
    "train": "Train the members of an ensemble by the paper's recipe.",
    "demo-data": "Draw a labelled data set of pictures.",
    "propose": "Propose boxes that may hold objects.",
    "detect": "Detect objects and write the mean average precision.",
    "detect-svm": "Train linear SVMs on the proposed boxes.",
}
_STOPS = (signal.SIGINT, signal.SIGTERM)
# More than Python's 700.
_OBJECTS_BETWEEN_SEARCHES = 10_000


class _Commands(click.Group):
    """The group of the commands; errors that are raised on purpose become one sentence."""

    context_class = Context

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in _COMMANDS:
            return None
        attribute = name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"ensemble_eval.cli.{attribute}"), attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, context: click.Context) -> Any:
        """Run a command, and return its exit code."""
        try:
            return super().invoke(context)
        except EnsembleEvalError as error:
            complain_of(error)
            return error.exit_code


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # The environment of a job can set any option, as in ENSEMBLE_EVAL_RUN_BACKEND=torch.
        "auto_envvar_prefix": PREFIX,
    },
)
@click.version_option(__version__, prog_name="ensemble-eval")
def cli() -> None:
    """Multi-crop evaluation of ensembles, as in "Going Deeper with Convolutions".

    Exit codes: 0 done; 1 a fault of ours; 2 bad input or usage; 3 done, but some images were unreadable;
    130 and 143 interrupted.
    """
    for sentence in unknown_variables(cli, os.environ):
        warn(sentence)


def main() -> NoReturn:
    """The command `ensemble-eval`: run the command line and end the process with its exit code."""
    # Importing torch creates many objects and hardly any garbage, for which Python would search again and again.
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    code = run_command_line()
    sys.stdout.flush()
    sys.stderr.flush()
    if code in STOPPED_EXIT_CODES:
        # Do not wait for threads, one of which may be reading from a drive that does not answer.
        os._exit(code)
    _shield_the_end(code)
    # Python would search for garbage once more before it exits.
    gc.freeze()
    sys.exit(code)


def _shield_the_end(code: int) -> None:
    """Keep SIGINT and SIGTERM from changing the exit code, because the command is done.

    Python needs some tenths of a second to exit after torch was imported. A batch system that sent a signal in
    that time would otherwise take a finished run for a stopped one.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        # Do not wait for threads; see `main`.
        os._exit(code)

    def ignore() -> None:
        # At the very end Python restores the default handlers, but keeps ignored signals ignored.
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)

    for number in _STOPS:
        signal.signal(number, end)
    atexit.register(ignore)


def run_command_line() -> int:
    """Run the command line in `sys.argv`, and return its exit code."""
    print_in_any_encoding()
    try:
        code: int | None = cli.main(prog_name="ensemble-eval", standalone_mode=False)
        return code or 0
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except click.Abort:
        complain("stopped by SIGINT")
        return 128 + signal.SIGINT
