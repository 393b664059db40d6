"""`ensemble-eval submit`."""

import dataclasses
import shlex
import sys
from typing import Any

import click

from ensemble_eval.cli.options import PATH, distribution_options, evaluation_options, option_of, words_given
from ensemble_eval.cli.output import say
from ensemble_eval.errors import InputError
from ensemble_eval.launch import slurm

_JOB = tuple(field.name for field in dataclasses.fields(slurm.Job))
# Of the job and not of the command of its ranks, which is given the ensemble and the folder of its task.
_NOT_OF_RANKS = {*_JOB, "dry_run", "ensemble", "out"}


@click.command()
@evaluation_options
@distribution_options
@option_of(slurm.Job, "nodes", "Machines.", type=click.IntRange(1))
@option_of(
    slurm.Job,
    "gpus_per_node",
    "One rank for each; 0 for a job on CPUs with --ranks on each node.",
    type=click.IntRange(0),
)
@option_of(slurm.Job, "cpus_per_rank", "Cores of each process.", type=click.IntRange(1))
@option_of(slurm.Job, "time", "Limit, as Slurm writes it.")
@option_of(slurm.Job, "partition", "[default: the site's]")
@option_of(slurm.Job, "account", "[default: yours]")
@option_of(slurm.Job, "job_name", "Name of the job and of its log.")
@click.option(
    "--requeue/--no-requeue",
    default=slurm.Job.requeue,
    show_default=True,
    help="Put the job back in the queue when it is preempted or out of time.",
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
    job, ensemble, out = slurm.Job(**{name: options[name] for name in _JOB}), options["ensemble"], options["out"]
    if options["fresh"]:
        raise InputError(f"--fresh would start over at every requeue; remove {out} and submit without it")
    slurm.require_time_to_work(job.time)
    slurm.require_inputs(options["dataset"], (ensemble, *job.array), options["labels"])
    command = [sys.executable, "-m", "ensemble_eval", "run", *words_given(context, _NOT_OF_RANKS)]
    script = slurm.batch_script(job, command, ensemble, out)
    if options["dry_run"]:
        # As it is, in UTF-8 where the terminal has only ASCII: an escaped path would be another one.
        click.echo(script, nl=False)
        return
    # Slurm does not make the folder of a log.
    out.mkdir(parents=True, exist_ok=True)
    said = slurm.submit(script)
    say(said)
    say(f"follow it with: tail -F {job.log_glob(out, said)}")
    for _, folder in job.tasks(ensemble, out):
        say(f"or with:        ensemble-eval status {shlex.quote(str(folder))}")
