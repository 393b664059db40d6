"""`ensemble-eval submit`."""

import dataclasses
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ensemble_eval.cli.options import PATH, command, options_of, settings_from, words_given
from ensemble_eval.cli.output import say
from ensemble_eval.crops.protocols import OWN, read_protocol
from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields
from ensemble_eval.jobs.batch import BatchJob, require_inputs
from ensemble_eval.jobs.batch import submit as pass_to
from ensemble_eval.jobs.kubernetes import Kubernetes
from ensemble_eval.jobs.slurm import Slurm
from ensemble_eval.settings import RunSettings

Fields = TypeVar("Fields", bound=CheckedFields)


def _names(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


_OF_JOB = {*_names(BatchJob, Slurm, Kubernetes), "dry_run", "kubernetes"}
# Options that the command of the ranks does not get. The script sets the ensemble and the folder of each task.
_NOT_OF_RANKS = {*_OF_JOB, "ensemble", "out"}


def _chosen(kind: type[Fields], options: dict[str, Any]) -> Fields:
    return kind(**{name: options[name] for name in _names(kind)})


def _refuse_options_of(other: type, context: click.Context) -> None:
    """Refuse options of the other batch system, which would have no effect."""
    for name in sorted(_names(other)):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            remedy = "leave out --kubernetes" if other is Slurm else "give --kubernetes too"
            raise InputError(f"`{name}` is for {other.__name__} only; {remedy}, or leave out `{name}`")


def _require_inputs(settings: RunSettings, ensembles: Iterable[Path]) -> None:
    if settings.protocol != OWN:
        protocol = read_protocol(settings.protocol)
        protocol.schemes_up_to(settings.crops or protocol.schemes[-1])
    require_inputs(settings.dataset, ensembles, settings.labels)


@command(
    "ensemble-eval submit val/ --ensemble mine.toml --nodes 2 --time 2:00:00\n"
    "ensemble-eval submit s3://data/val --ensemble s3://data/mine.toml \\\n"
    "    --out s3://data/results --kubernetes --container-image my-image --dry-run"
)
@click.argument("dataset", type=PATH)
@options_of(RunSettings)
@options_of(BatchJob, "Batch job")
@options_of(Slurm, "Slurm")
@options_of(Kubernetes, "Kubernetes")
@click.option("--kubernetes", is_flag=True, help="Submit to Kubernetes, with kubectl, instead of to Slurm.")
@click.option("--dry-run", is_flag=True, help="Print the script or the manifest instead of submitting it.")
@click.pass_context
def submit(context: click.Context, /, **options: Any) -> None:
    """Submit the evaluation of DATASET as a batch job to Slurm or Kubernetes.

    Takes the options of `run` and passes them to every rank of the job. Submitting the same job again continues
    where it stopped.
    """
    job = _chosen(BatchJob, options)
    system: Slurm | Kubernetes
    if options["kubernetes"]:
        system = _chosen(Kubernetes, options)
        _refuse_options_of(Slurm, context)
    else:
        system = _chosen(Slurm, options)
        _refuse_options_of(Kubernetes, context)
    ensemble, out = options["ensemble"], options["out"]
    if options["fresh"]:
        raise InputError(f"--fresh would start over at every requeue; remove {out} and submit without it")
    of_run = {name: value for name, value in options.items() if name not in _OF_JOB - {"ranks"}}
    settings = settings_from(RunSettings, of_run)
    job.seconds()
    tasks = system.tasks(ensemble, out)
    program = ["ensemble-eval"]
    # The paths in an image are not those of this machine.
    if isinstance(system, Slurm) and job.container_image is None:
        program = [sys.executable, "-m", "ensemble_eval"]
        _require_inputs(settings, [each for each, _ in tasks])
    text = system.text(job, [*program, "run", *words_given(context, _NOT_OF_RANKS)], ensemble, out)
    if options["dry_run"]:
        # In UTF-8 even on an ASCII terminal, because an escaped path would be another path.
        click.echo(text, nl=False)
        return
    if isinstance(system, Slurm):
        # Slurm does not create the folder of a log.
        out.mkdir(parents=True, exist_ok=True)
    said = pass_to(system.submit_command, text)
    say(said)
    say(f"follow it with: {system.follow(job, out, said)}")
    for _, folder in tasks:
        say(f"or with:        ensemble-eval status {shlex.quote(str(folder))}")
