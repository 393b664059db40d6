"""Writes a job's batch script for Slurm, which users can read and change."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.fields import option
from ensemble_eval.jobs.batch import GRACE_SECONDS, BatchJob, OneLineFields, require_one_line
from ensemble_eval.locations import ObjectPath

_OPTION = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(?:=(?P<value>.*))?")


@dataclass(frozen=True, kw_only=True)
class Slurm(OneLineFields):
    """The options of a batch job that only Slurm has."""

    submit_command = ("sbatch",)

    partition: str | None = option(None, "[default: the site's]")
    account: str | None = option(None, "[default: yours]")
    requeue: bool = option(True, "Put the job back in the queue when it is preempted or out of time.")
    array: tuple[Path, ...] = option(
        (),
        "Another ensemble, as a further task of a job array; repeatable. Results go to OUT/NAME.",
        metavar="ENSEMBLE",
    )
    sbatch: tuple[str, ...] = option(
        (), "Any other option of sbatch, such as --sbatch --constraint=h100; repeatable.", metavar="--NAME=VALUE"
    )

    def log(self, job: BatchJob, out: Path) -> Path:
        """Return the pattern of the log file in the output folder, with Slurm's placeholders."""
        return _log_folder(out) / f"{job.job_name}-{'%A-%a' if self.array else '%j'}.log"

    def follow(self, job: BatchJob, out: Path, said: str) -> str:
        """Return the command that shows the log, or those of all tasks of an array, from the output of sbatch."""
        number = re.search(r"\d+", said)
        start = shlex.quote(str(_log_folder(out) / job.job_name))
        return f"tail -F {start}-{number[0] if number else '*'}{'-*' if self.array else ''}.log"

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
                "two ensembles of the array have the same file name, so their results would be mixed up; rename "
                "one"
            )
        return pairs

    def text(self, job: BatchJob, command: Sequence[str], ensemble: Path, out: Path) -> str:
        """Return the text of the batch script.

        Args:
            job: The ranks and their resources.
            command: The command of each rank, without its ensemble and its output folder.
            ensemble: The ensemble of the job, or of the first task of a job array.
            out: The folder for the log and the results.

        Raises:
            InputError: Two tasks would write to the same folder, or an option would break the script.
        """
        tasks = self.tasks(ensemble, out)
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in self._options(job, len(tasks), out))]
        if job.gpus_per_node == 0:
            lines += ["", "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}"]
        if job.setup:
            lines += ["", *job.setup_lines()]
        lines += ["", *_task_lines(tasks), "", *(_REQUEUE if self.requeue else _FORWARD).splitlines(), ""]
        lines += [
            f"{shlex.join(_step(job))} \\",
            f"    {shlex.join(command)} \\",
            '    --ensemble "$ensemble" --out "$out" &',
            *_WAIT.splitlines(),
            *(_GO_BACK.splitlines() if self.requeue else ()),
            "exit $code",
        ]
        return "\n".join(lines) + "\n"

    def _options(self, job: BatchJob, tasks: int, out: Path) -> list[str]:
        require_one_line("out", out)
        options = {
            "job-name": job.job_name,
            "nodes": job.nodes,
            "ntasks-per-node": job.ranks_per_node,
            "gpus-per-node": job.gpus_per_node or None,
            "cpus-per-task": job.cpus_per_rank,
            "time": job.time or "1:00:00",
            "partition": self.partition,
            "account": self.account,
            "array": f"0-{tasks - 1}" if tasks > 1 else None,
            "output": self.log(job, out),
            "open-mode": "append",
            "signal": f"B:USR1@{GRACE_SECONDS}" if self.requeue else f"B:TERM@{GRACE_SECONDS}",
        }
        words = [f"--{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None]
        words.append("--requeue" if self.requeue else "--no-requeue")
        return words + [_passed_on(each, {*options, "requeue", "no-requeue"}) for each in self.sbatch]


def _log_folder(out: Path) -> Path:
    # Slurm writes its log where the job was submitted if the results are in a bucket.
    return Path() if isinstance(out, ObjectPath) else out


def _passed_on(text: str, ours: set[str]) -> str:
    """Return an option of sbatch as a directive, whatever its value holds.

    Raises:
        InputError: It is not a single option, or `submit` sets it.
    """
    match = _OPTION.fullmatch(text)
    if match is None:
        raise InputError(f'`sbatch="{text}"` is not a single option of sbatch; write it as --NAME=VALUE')
    name, value = match.group("name", "value")
    if name in ours:
        raise InputError(f'`sbatch="{text}"` would override an option that `submit` sets; leave it out')
    return f"--{name}" if value is None else f"--{name}={shlex.quote(value)}"


def _step(job: BatchJob) -> list[str]:
    shape = [f"--ntasks-per-node={job.ranks_per_node}", f"--cpus-per-task={job.cpus_per_rank}"]
    words = ["srun", "--kill-on-bad-exit=0", "--wait=0", *shape]
    if job.container_image:
        words.append(f"--container-image={job.container_image}")
    if job.mount:
        words.append(f"--container-mounts={','.join(job.mount)}")
    return words


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
# When the job is told to stop (scancel, preemption, the time limit), the ranks write what is finished.
stop() { scancel --quiet --signal=TERM "$job"; }
trap stop TERM"""

_REQUEUE = """\
# When the job is told to stop (scancel, preemption), the ranks write what is finished. Before the time limit,
# Slurm sends USR1. Then the job also goes back to the queue, and continues where it stopped.
stop() { scancel --quiet --signal=TERM "$job"; }
trap stop TERM
trap 'requeue=yes; stop' USR1"""

_WAIT = """\
step=$!
# A signal ends a wait, not the step.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"; code=$?"""

_GO_BACK = """\
# In a preemption with a grace time, only the ranks get a signal, and they end before Slurm would requeue the job.
now=$(scontrol --oneliner show job "$job")
if [ "$code" -eq 143 ] && [[ $now == *JobState=RUNNING* && $now == *PreemptTime=[0-9]* ]]; then requeue=yes; fi
if [ "$code" -ne 0 ] && [ -n "${requeue:-}" ]; then scontrol requeue "$job"; fi"""
