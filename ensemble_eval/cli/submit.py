"""`ensemble-eval submit`."""

import dataclasses
import shlex
import sys
from typing import Any

import click

from ensemble_eval.cli.options import PATH, command, options_of, settings_from, words_given
from ensemble_eval.cli.output import say
from ensemble_eval.crops.protocols import OWN, read_protocol
from ensemble_eval.errors import InputError
from ensemble_eval.jobs import slurm
from ensemble_eval.settings import RunSettings

_JOB = tuple(field.name for field in dataclasses.fields(slurm.Job))
# Options that the command of the ranks does not get. The script sets the ensemble and the folder of each task.
_NOT_OF_RANKS = {*_JOB, "dry_run", "ensemble", "out"}
_OF_JOB = {*_JOB, "dry_run"} - {"ranks"}


@command("ensemble-eval submit val/ --ensemble mine.toml --nodes 2 --time 2:00:00")
@click.argument("dataset", type=PATH)
@options_of(RunSettings)
@options_of(slurm.Job, "Slurm")
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
    settings = settings_from(RunSettings, {name: value for name, value in options.items() if name not in _OF_JOB})
    if settings.protocol != OWN:
        protocol = read_protocol(settings.protocol)
        protocol.schemes_up_to(settings.crops or protocol.schemes[-1])
    slurm.require_time_to_work(job.time)
    slurm.require_inputs(options["dataset"], (ensemble, *job.array), options["labels"])
    command = [sys.executable, "-m", "ensemble_eval", "run", *words_given(context, _NOT_OF_RANKS)]
    script = slurm.batch_script(job, command, ensemble, out)
    if options["dry_run"]:
        # In UTF-8 even on an ASCII terminal, because an escaped path would be another path.
        click.echo(script, nl=False)
        return
    # Slurm does not create the folder of a log.
    out.mkdir(parents=True, exist_ok=True)
    said = slurm.submit(script)
    say(said)
    say(f"follow it with: tail -F {job.log_glob(out, said)}")
    for _, folder in job.tasks(ensemble, out):
        say(f"or with:        ensemble-eval status {shlex.quote(str(folder))}")
