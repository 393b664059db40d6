"""The batch script of an evaluation under Slurm, as text that a person can read and change."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError

# Ahead of the time limit: enough to write, and for the queue to take the job back.
_SIGNAL_SECONDS = 120


@dataclass(frozen=True)
class Job:
    """What a job asks of Slurm.

    Attributes:
        nodes: machines.
        ranks_per_node: processes on each.
        gpus_per_node: 0 for a job on CPUs.
        cpus_per_rank: cores of each process.
        time: limit, as Slurm writes it.
        partition: None for the site's default.
        account: None for the user's default.
        name: of the job.
        log: pattern of the log file, as Slurm writes it.
        requeue: whether it goes back to the queue when preempted or out of time.
    """

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    cpus_per_rank: int
    time: str
    partition: str | None
    account: str | None
    name: str
    log: str
    requeue: bool = True


def batch_script(job: Job, command: Sequence[str], ensembles: Sequence[tuple[Path, Path]]) -> str:
    """The script.

    Args:
        job: what it asks for.
        command: of each rank, without `--ensemble` and `--out`.
        ensembles: of each task of a job array, with its folder for results; one is a job without an array.
    """
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(job, len(ensembles)))]
    if job.gpus_per_node == 0:
        lines += ["", "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}"]
    lines += ["", *_ensemble_lines(ensembles), "", *(_REQUEUE if job.requeue else _FORWARD).splitlines(), ""]
    shape = [f"--ntasks-per-node={job.ranks_per_node}", f"--cpus-per-task={job.cpus_per_rank}"]
    step = ["srun", "--kill-on-bad-exit=1", "--wait=0", *shape]
    lines += [
        f"{shlex.join(step)} \\",
        f"    {shlex.join(command)} \\",
        '    --ensemble "$ensemble" --out "$out" &',
        *_WAIT.splitlines(),
    ]
    return "\n".join(lines) + "\n"


def submit(script: str) -> str:
    """Hand a script to `sbatch`, and return what it says.

    Raises:
        InputError: there is no sbatch here, or it refuses; its reason is passed on.
    """
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(
            "there is no sbatch on this machine; submit from a login node of the cluster, or use --dry-run"
        ) from error
    if done.returncode != 0:
        raise InputError(f"sbatch refuses the job: {done.stderr.strip()}")
    return done.stdout.strip()


def _options(job: Job, tasks: int) -> list[str]:
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": job.ranks_per_node,
        "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_rank,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "array": f"0-{tasks - 1}" if tasks > 1 else None,
        "output": job.log,
        "open-mode": "append",
        "signal": f"B:USR1@{_SIGNAL_SECONDS}" if job.requeue else f"B:TERM@{_SIGNAL_SECONDS}",
    }
    words = [f"--{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return [*words, "--requeue" if job.requeue else "--no-requeue"]


def _ensemble_lines(ensembles: Sequence[tuple[Path, Path]]) -> list[str]:
    if len(ensembles) == 1:
        ensemble, out = ensembles[0]
        return [f"ensemble={shlex.quote(str(ensemble))}", f"out={shlex.quote(str(out))}"]
    return [
        f"ensembles=({shlex.join(str(ensemble) for ensemble, _ in ensembles)})",
        f"outs=({shlex.join(str(out) for _, out in ensembles)})",
        "ensemble=${ensembles[$SLURM_ARRAY_TASK_ID]} out=${outs[$SLURM_ARRAY_TASK_ID]}",
    ]


_FORWARD = """\
# Told to stop (scancel, preemption, the time limit), the ranks write what is finished.
stop() { scancel --quiet --signal=TERM "$SLURM_JOB_ID"; }
trap stop TERM"""

_REQUEUE = """\
# Told to stop (scancel, preemption), the ranks write what is finished. Ahead of the time limit
# Slurm sends USR1: then the job goes back to the queue too, and continues where it stopped.
stop() { scancel --quiet --signal=TERM "$SLURM_JOB_ID"; }
trap stop TERM
trap 'requeue=yes; stop' USR1"""

_WAIT = """\
step=$!
# A signal ends a wait, not the step.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"; code=$?
if [ "$code" -ne 0 ] && [ -n "${requeue:-}" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $code"""
