"""Writes the batch script of an evaluation for Slurm, which people can read and change."""

import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields, option
from ensemble_eval.settings import UNLABELLED

# Time before the limit at which Slurm signals the job: enough to write results and to requeue.
_SIGNAL_SECONDS = 120
# A job with a shorter limit would be told to stop while it starts, and would be requeued for ever.
_MIN_SECONDS = 300
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<fields>\d+(?::\d+){0,2})", re.ASCII)
_NO_LIMIT = {"-1", "INFINITE", "UNLIMITED"}


@dataclass(frozen=True, kw_only=True)
class Job(CheckedFields):
    """The resources and options of a Slurm job.

    Attributes:
        ranks: The number of processes on each node of a job on CPUs; None for one.
    """

    nodes: int = option(1, "Machines.", low=1)
    gpus_per_node: int = option(0, "One rank for each; 0 for a job on CPUs with `ranks` on each node.", low=0)
    ranks: int | None = option(None, low=1)
    cpus_per_rank: int = option(4, "Cores of each process.", low=1)
    time: str = option("1:00:00", "Limit, as Slurm writes it.")
    partition: str | None = option(None, "[default: the site's]")
    account: str | None = option(None, "[default: yours]")
    job_name: str = option("ensemble-eval", "Name of the job and of its log.")
    requeue: bool = option(True, "Put the job back in the queue when it is preempted or out of time.")
    array: tuple[Path, ...] = option(
        (),
        "A further ensemble, as a task of a job array; repeatable. Results go to OUT/NAME.",
        metavar="ENSEMBLE",
    )

    @property
    def ranks_per_node(self) -> int:
        """The number of processes on each machine."""
        return self.gpus_per_node or self.ranks or 1

    def log(self, out: Path) -> Path:
        """Return the pattern of the log file in the output folder, with Slurm's placeholders."""
        return out / f"{self.job_name}-{'%A-%a' if self.array else '%j'}.log"

    def log_glob(self, out: Path, said: str) -> str:
        """Return the path of the log for the shell, from the output of sbatch; a pattern for an array."""
        number = re.search(r"\d+", said)
        start = shlex.quote(str(out / self.job_name))
        return f"{start}-{number[0] if number else '*'}{'-*' if self.array else ''}.log"

    def tasks(self, ensemble: Path, out: Path) -> list[tuple[Path, Path]]:
        """Return the ensemble and the output folder of each task: `out`, or a folder in it for an array.

        Raises:
            InputError: Two tasks would write to the same folder.
        """
        if not self.array:
            return [(ensemble, out)]
        pairs = [(each, out / each.stem) for each in (ensemble, *self.array)]
        if len({folder for _, folder in pairs}) < len(pairs):
            raise InputError(
                "two ensembles of the array have the same file name, so their results would mix; rename one"
            )
        return pairs


def batch_script(job: Job, command: Sequence[str], ensemble: Path, out: Path) -> str:
    """Return the text of the batch script.

    Args:
        job: The resources and options.
        command: The command of each rank, without its ensemble and its output folder.
        ensemble: The ensemble of the job, or of the first task of a job array.
        out: The folder for the log and the results.

    Raises:
        InputError: Two tasks would write to the same folder.
    """
    tasks = job.tasks(ensemble, out)
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(job, len(tasks), job.log(out)))]
    if job.gpus_per_node == 0:
        lines += ["", "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}"]
    lines += ["", *_task_lines(tasks), "", *(_REQUEUE if job.requeue else _FORWARD).splitlines(), ""]
    shape = [f"--ntasks-per-node={job.ranks_per_node}", f"--cpus-per-task={job.cpus_per_rank}"]
    step = ["srun", "--kill-on-bad-exit=0", "--wait=0", *shape]
    lines += [
        f"{shlex.join(step)} \\",
        f"    {shlex.join(command)} \\",
        '    --ensemble "$ensemble" --out "$out" &',
        *_WAIT.splitlines(),
        *(_GO_BACK.splitlines() if job.requeue else ()),
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def require_time_to_work(limit: str) -> None:
    """Refuse a time limit that sbatch could not parse, or that is too short to do any work.

    Args:
        limit: In one of the forms of sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
            days-hours:minutes, days-hours:minutes:seconds, or no limit: 0, -1, UNLIMITED or INFINITE.

    Raises:
        InputError: It is not a time limit, or too short.
    """
    if limit.upper() in _NO_LIMIT:
        return
    match = _TIME.fullmatch(limit)
    if match is None:
        raise InputError(
            f'`time="{limit}"` is no time limit; write minutes, hours:minutes:seconds or days-hours, as in 90, '
            "1:30:00 or 1-12, or UNLIMITED"
        )
    fields = [int(field) for field in match["fields"].split(":")]
    # After days the first field is hours. Otherwise, one or two fields start with minutes.
    units = (3600, 60, 1) if match["days"] or len(fields) == 3 else (60, 1)
    seconds = 86400 * int(match["days"] or 0) + sum(
        unit * field for unit, field in zip(units, fields, strict=False)
    )
    if 0 < seconds < _MIN_SECONDS:
        raise InputError(
            f'`time="{limit}"` leaves no time to work: the job is told to stop {_SIGNAL_SECONDS // 60} minutes '
            f"ahead of its limit; give at least {_MIN_SECONDS // 60} minutes"
        )


def require_inputs(dataset: Path, ensembles: Iterable[Path], labels: Path | None) -> None:
    """Check that the inputs of a job exist, because the job would find out only after its time in the queue.

    Raises:
        InputError: The message names the first path that does not exist.
    """
    # Imported here, because `--help` does not need the readers of data sets.
    from ensemble_eval.datasets.recognition import expanded

    datasets = expanded(dataset)
    inputs = [("data set", datasets[0]), *(("ensemble", ensemble) for ensemble in ensembles)]
    inputs += [("file of labels", labels)] if labels is not None and str(labels) != UNLABELLED else []
    for what, path in inputs:
        if not path.exists():
            raise InputError(f"the {what} {path} does not exist; check the path")


def submit(script: str) -> str:
    """Submit a script with `sbatch`, and return its output.

    Raises:
        InputError: There is no sbatch, or it refuses the script; the message contains its reason.
    """
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(
            "there is no sbatch on this machine; submit from a login node of the cluster, or use `dry_run=True`"
        ) from error
    if done.returncode != 0:
        raise InputError(f"sbatch refuses the job: {done.stderr.strip()}")
    return done.stdout.strip()


def _options(job: Job, tasks: int, log: Path) -> list[str]:
    options = {
        "job-name": job.job_name,
        "nodes": job.nodes,
        "ntasks-per-node": job.ranks_per_node,
        "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_rank,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "array": f"0-{tasks - 1}" if tasks > 1 else None,
        "output": log,
        "open-mode": "append",
        "signal": f"B:USR1@{_SIGNAL_SECONDS}" if job.requeue else f"B:TERM@{_SIGNAL_SECONDS}",
    }
    for name, value in options.items():
        # Text after a line break would become a line of the script.
        if value is not None and any(unicodedata.category(each) == "Cc" for each in str(value)):
            argument = "out" if name == "output" else name.replace("-", "_")
            raise InputError(f"`{argument}` holds a line break or another control character; give it one line")
    words = [f"--{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return [*words, "--requeue" if job.requeue else "--no-requeue"]


def _task_lines(tasks: Sequence[tuple[Path, Path]]) -> list[str]:
    if len(tasks) == 1:
        [(ensemble, out)] = tasks
        return [f"ensemble={shlex.quote(str(ensemble))}", f"out={shlex.quote(str(out))}", "job=$SLURM_JOB_ID"]
    return [
        # The job number alone could mean all tasks of the array.
        "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        f"ensembles=({shlex.join(str(ensemble) for ensemble, _ in tasks)})",
        f"outs=({shlex.join(str(out) for _, out in tasks)})",
        "ensemble=${ensembles[$SLURM_ARRAY_TASK_ID]} out=${outs[$SLURM_ARRAY_TASK_ID]}",
    ]


_FORWARD = """\
# Told to stop (scancel, preemption, the time limit), the ranks write what is finished.
stop() { scancel --quiet --signal=TERM "$job"; }
trap stop TERM"""

_REQUEUE = """\
# Told to stop (scancel, preemption), the ranks write what is finished. Ahead of the time limit
# Slurm sends USR1: then the job goes back to the queue too, and continues where it stopped.
stop() { scancel --quiet --signal=TERM "$job"; }
trap stop TERM
trap 'requeue=yes; stop' USR1"""

_WAIT = """\
step=$!
# A signal ends a wait, not the step.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"; code=$?"""

_GO_BACK = """\
# Preempted with a grace time, only the ranks are told, and they leave before Slurm would queue the job again.
now=$(scontrol --oneliner show job "$job")
if [ "$code" -eq 143 ] && [[ $now == *JobState=RUNNING* && $now == *PreemptTime=[0-9]* ]]; then requeue=yes; fi
if [ "$code" -ne 0 ] && [ -n "${requeue:-}" ]; then scontrol requeue "$job"; fi"""
