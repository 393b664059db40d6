"""A batch job, whichever system runs it: its ranks, their resources and how they start and stop."""

import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields, option
from ensemble_eval.patterns import expanded
from ensemble_eval.settings import UNLABELLED

# The time that a rank has to write its results, and a job on Slurm to requeue, once it is told to stop.
GRACE_SECONDS = 120
# A job with a shorter limit would be told to stop while it starts, and would be requeued forever.
_MIN_SECONDS = 300
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<fields>\d+(?::\d+){0,2})", re.ASCII)
_NO_LIMIT = {"-1", "INFINITE", "UNLIMITED"}
# Control characters, and the line breaks of Unicode, which some readers of YAML follow.
_BREAKS = {"Cc", "Zl", "Zp"}


class OneLineFields(CheckedFields):
    """Checked fields without line breaks, because the text after one would become a line of the script."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in vars(self).items():
            for each in value if isinstance(value, tuple) else (value,):
                require_one_line(name, each)


def require_one_line(name: str, value: object) -> None:
    """Refuse a value whose text has several lines.

    Raises:
        InputError: The message names the argument.
    """
    if any(unicodedata.category(each) in _BREAKS for each in str(value)):
        raise InputError(f"`{name}` contains a line break or another control character; write it on one line")


@dataclass(frozen=True, kw_only=True)
class BatchJob(OneLineFields):
    """The ranks of a job and their resources, for any batch system.

    Attributes:
        ranks: The number of processes on each node of a job on CPUs; None for one.
    """

    nodes: int = option(1, "Machines. On Kubernetes, every rank is a pod.", low=1)
    gpus_per_node: int = option(
        0, "GPUs of each machine, with a rank for each; 0 for a job on CPUs, with `ranks` on each machine.", low=0
    )
    ranks: int | None = option(None, low=1)
    cpus_per_rank: int = option(4, "Cores of each process.", low=1)
    time: str | None = option(
        None, "Time limit, in Slurm's format.  [default: 1:00:00 on Slurm, none on Kubernetes]"
    )
    job_name: str = option("ensemble-eval", "Name of the job and of its log.")
    container_image: str | None = option(
        None,
        "Container image of the ranks; Slurm needs pyxis for it.  [default: none; required on Kubernetes]",
    )
    mount: tuple[str, ...] = option(
        (),
        "Mount a folder of the host, or on Kubernetes a volume claim, in the container; repeatable.",
        metavar="SOURCE:PATH",
        pattern=r"[^:,]+:/[^:,]*",
        words="of the form SOURCE:PATH with an absolute PATH",
    )
    setup: tuple[str, ...] = option(
        (),
        "Shell command to run before the ranks start, such as 'module load cuda'; repeatable.",
        metavar="COMMAND",
        in_environment=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mount and self.container_image is None:
            raise InputError("`mount` needs `container_image`; give both, or leave out `mount`")

    @property
    def mounts(self) -> list[tuple[str, str]]:
        """The source and the path of each mount."""
        return [(source, path) for source, path in (each.split(":") for each in self.mount)]

    @property
    def ranks_per_node(self) -> int:
        """The number of processes on each machine."""
        return self.gpus_per_node or self.ranks or 1

    def setup_lines(self) -> list[str]:
        """Return the setup as lines of a shell script. A command that fails ends the job."""
        # Without eval, an unclosed quote or a comment would swallow what follows.
        return [f"eval {shlex.quote(command)} || exit 1" for command in self.setup]

    def seconds(self) -> int | None:
        """Return the time limit in seconds, or None if there is none.

        The forms are those of sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
        days-hours:minutes, days-hours:minutes:seconds, or no limit: 0, -1, UNLIMITED or INFINITE.

        Raises:
            InputError: It is not a time limit, or too short to do any work.
        """
        if self.time is None or self.time.upper() in _NO_LIMIT:
            return None
        match = _TIME.fullmatch(self.time)
        if match is None:
            raise InputError(
                f'`time="{self.time}"` is not a time limit; write minutes, hours:minutes:seconds or days-hours, '
                "such as 90, 1:30:00 or 1-12, or UNLIMITED"
            )
        fields = [int(field) for field in match["fields"].split(":")]
        # After days the first field is hours. Otherwise, one or two fields start with minutes.
        units = (3600, 60, 1) if match["days"] or len(fields) == 3 else (60, 1)
        seconds = 86400 * int(match["days"] or 0) + sum(
            unit * field for unit, field in zip(units, fields, strict=False)
        )
        if 0 < seconds < _MIN_SECONDS:
            raise InputError(
                f'`time="{self.time}"` leaves no time to work: the job is told to stop {GRACE_SECONDS // 60} '
                f"minutes before its limit; give at least {_MIN_SECONDS // 60} minutes"
            )
        return seconds or None


def require_inputs(dataset: Path, ensembles: Iterable[Path], labels: Path | None) -> None:
    """Check that the inputs of a job exist, because the job would find out only after its time in the queue.

    Raises:
        InputError: The message names the first path that does not exist.
    """
    datasets = expanded(dataset)
    inputs = [("data set", datasets[0]), *(("ensemble", ensemble) for ensemble in ensembles)]
    inputs += [("file of labels", labels)] if labels is not None and str(labels) != UNLABELLED else []
    for what, path in inputs:
        if not path.exists():
            raise InputError(f"the {what} {path} does not exist; check the path")


def submit(command: Sequence[str], text: str) -> str:
    """Pass the text of a job to the command that submits it, and return its output.

    Raises:
        InputError: There is no such command, or it refuses the job; the message contains its reason.
    """
    program = command[0]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {program} on this machine; submit from one that has it, or use `dry_run=True`"
        ) from error
    if done.returncode != 0:
        raise InputError(f"{program} refuses the job: {done.stderr.strip()}")
    return done.stdout.strip()
