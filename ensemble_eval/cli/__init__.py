"""The command line: parse, call, print. Heavy imports are inside the commands, so that --help is instant."""

import sys

import click

from ensemble_eval import __version__
from ensemble_eval.cli.check import check
from ensemble_eval.cli.crops import crops
from ensemble_eval.cli.demo_data import demo_data
from ensemble_eval.cli.describe import describe
from ensemble_eval.cli.merge import merge
from ensemble_eval.cli.run import run
from ensemble_eval.cli.status import status
from ensemble_eval.cli.submit import submit
from ensemble_eval.cli.train import train
from ensemble_eval.errors import EnsembleEvalError

__all__ = ["cli", "main"]


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # A job's environment may set any option: ENSEMBLE_EVAL_RUN_BACKEND=torch.
        "auto_envvar_prefix": "ENSEMBLE_EVAL",
    }
)
@click.version_option(__version__, prog_name="ensemble-eval")
def cli() -> None:
    """Multi-crop ensemble evaluation after "Going Deeper with Convolutions".

    Exit codes: 0 done; 1 a fault of ours; 2 bad input or usage; 3 done, but some images were unreadable;
    130 and 143 interrupted.
    """


for command in (run, submit, status, merge, check, crops, describe, train, demo_data):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors that we raise on purpose become one sentence and an exit code."""
    try:
        sys.exit(cli.main(prog_name="ensemble-eval", standalone_mode=False) or 0)
    except EnsembleEvalError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped by SIGINT", err=True)
        sys.exit(130)
