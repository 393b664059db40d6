"""The command line. Heavy imports are inside the commands, so that --help is instant."""

import atexit
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from ensemble_eval import __version__
from ensemble_eval.cli.check import check
from ensemble_eval.cli.compare import compare
from ensemble_eval.cli.convert import convert
from ensemble_eval.cli.crops import crops
from ensemble_eval.cli.demo_data import demo_data
from ensemble_eval.cli.describe import describe
from ensemble_eval.cli.detect import detect
from ensemble_eval.cli.detect_svm import detect_svm
from ensemble_eval.cli.environment import PREFIX, unknown_variables
from ensemble_eval.cli.inspect import inspect
from ensemble_eval.cli.merge import merge
from ensemble_eval.cli.output import Context, complain, complain_of, print_in_any_encoding, warn
from ensemble_eval.cli.propose import propose
from ensemble_eval.cli.report import report
from ensemble_eval.cli.run import run
from ensemble_eval.cli.status import status
from ensemble_eval.cli.submit import submit
from ensemble_eval.cli.train import train
from ensemble_eval.errors import EnsembleEvalError

__all__ = ["cli", "main", "run_command_line"]

_STOPS = (signal.SIGINT, signal.SIGTERM)
_STOPPED = tuple(128 + number for number in _STOPS)


class _Commands(click.Group):
    """The group of the commands; errors that are raised on purpose become one sentence."""

    context_class = Context

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


for command in (
    run,
    submit,
    status,
    merge,
    report,
    compare,
    check,
    inspect,
    convert,
    crops,
    describe,
    train,
    demo_data,
    propose,
    detect,
    detect_svm,
):
    cli.add_command(command)


def main() -> NoReturn:
    """The command `ensemble-eval`: run the command line and end the process with its exit code."""
    code = run_command_line()
    sys.stdout.flush()
    sys.stderr.flush()
    if code in _STOPPED:
        # Do not wait for threads, one of which may be reading from a drive that does not answer.
        os._exit(code)
    _shield_the_end(code)
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
