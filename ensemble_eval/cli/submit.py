"""`ensemble-eval submit`."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ensemble_eval.cli.options import PATH, distribution_options, evaluation_options
from ensemble_eval.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ensemble_eval.launch.slurm import Job

# Of the job and not of the evaluation in it.
_JOB_OPTIONS = {
    "nodes", "gpus_per_node", "cpus_per_rank", "time", "partition", "account", "job_name", "requeue", "dry_run",
    "array", "ensemble", "out", "ranks",
}  # fmt: skip


@click.command()
@evaluation_options
@distribution_options
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option(
    "--gpus-per-node",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="One rank for each; 0 for a job on CPUs with --ranks on each node.",
)
@click.option(
    "--cpus-per-rank", type=click.IntRange(1), default=4, show_default=True, help="Cores of each process."
)
@click.option("--time", default="1:00:00", show_default=True, help="Limit, as Slurm writes it.")
@click.option("--partition", help="[default: the site's]")
@click.option("--account", help="[default: yours]")
@click.option("--job-name", default="ensemble-eval", show_default=True, help="Of the job and its log.")
@click.option(
    "--requeue/--no-requeue",
    default=True,
    show_default=True,
    help="Back to the queue when preempted or out of time.",
)
@click.option(
    "--array",
    type=PATH,
    multiple=True,
    metavar="ENSEMBLE",
    help="A further ensemble, as a task of a job array; repeatable. Results go to OUT/NAME.",
)
@click.option("--dry-run", is_flag=True, help="Print the script instead of submitting it.")
@click.pass_context
def submit(context: click.Context, /, **options: Any) -> None:
    """Submit the evaluation of DATASET as a batch job to Slurm.

    Takes the options of `run`, which every rank of the job is started with. Submitting the same job again
    continues where it stopped.
    """
    from ensemble_eval.errors import InputError
    from ensemble_eval.launch.slurm import batch_script, require_time_to_work
    from ensemble_eval.launch.slurm import submit as submit_script

    if options["fresh"]:
        raise InputError(
            f"--fresh would start over at every requeue; remove {options['out']} and submit without it"
        )
    require_time_to_work(options["time"])
    _require_inputs(options)
    command = [sys.executable, "-m", "ensemble_eval", "run", *_run_words(context)]
    ensembles = _ensembles(options["ensemble"], options["array"], options["out"])
    script = batch_script(_job(options), command, ensembles)
    if options["dry_run"]:
        # As it is, in UTF-8 where the terminal has only ASCII: an escaped path would be another one.
        click.echo(script, nl=False)
        return
    # Slurm does not make the folder of a log.
    options["out"].mkdir(parents=True, exist_ok=True)
    said = submit_script(script)
    say(said)
    say(f"follow it with: tail -F {_logs_of(options, said)}")
    for _, out in ensembles:
        say(f"or with:        ensemble-eval status {shlex.quote(str(out))}")


def _require_inputs(options: dict[str, Any]) -> None:
    """Refuse what a job would find missing only after its time in the queue."""
    from ensemble_eval.errors import InputError

    inputs = [("data set", options["dataset"])]
    inputs += [("ensemble", path) for path in (options["ensemble"], *options["array"])]
    inputs += [("file of labels", path) for path in (options["labels"],) if path is not None]
    for what, path in inputs:
        if not path.exists():
            raise InputError(f"the {what} {path} does not exist; check the path")


def _job(options: dict[str, Any]) -> "Job":
    from ensemble_eval.launch.slurm import Job

    return Job(
        nodes=options["nodes"],
        ranks_per_node=options["gpus_per_node"] or options["ranks"] or 1,
        gpus_per_node=options["gpus_per_node"],
        cpus_per_rank=options["cpus_per_rank"],
        time=options["time"],
        partition=options["partition"],
        account=options["account"],
        name=options["job_name"],
        log=_log(options),
        requeue=options["requeue"],
    )


def _log(options: dict[str, Any]) -> str:
    number = "%A-%a" if options["array"] else "%j"
    return str(options["out"] / f"{options['job_name']}-{number}.log")


def _logs_of(options: dict[str, Any], said: str) -> str:
    """The log of the job that sbatch has just numbered, as a word for the shell; of an array all logs."""
    number = re.search(r"\d+", said)
    start = shlex.quote(str(options["out"] / options["job_name"]))
    return f"{start}-{number[0] if number else '*'}{'-*' if options['array'] else ''}.log"


def _ensembles(first: Path, others: tuple[Path, ...], out: Path) -> list[tuple[Path, Path]]:
    from ensemble_eval.errors import InputError

    if not others:
        return [(first, out)]
    pairs = [(ensemble, out / ensemble.stem) for ensemble in (first, *others)]
    if len({folder for _, folder in pairs}) < len(pairs):
        raise InputError(
            "two ensembles of the array have the same file name, so their results would mix; rename one"
        )
    return pairs


def _run_words(context: click.Context) -> "Iterator[str]":
    """What was given, also in the environment, and is the evaluation's own, as words of `run`'s command line."""
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        given = context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
        if not given or name in _JOB_OPTIONS:
            continue
        if isinstance(parameter, click.Argument):
            yield str(value)
        elif isinstance(parameter, click.Option) and not parameter.is_flag:
            yield from (parameter.opts[0], str(value))
        elif value:
            # In the environment a flag may also be said to be off.
            yield parameter.opts[0]
