"""One process of a job: its rank, its shard of the images, and the processors that it shares with others.

Processes do not communicate; they share only the output folder. A shard depends on the rank, the number of ranks
and the session, but not on the progress. So all processes agree on the shards without asking each other.
"""

import enum
import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ensemble_eval.errors import refusing
from ensemble_eval.jobs.cpu import bound_processors

# Set for the workers that a supervisor starts, to its process id.
PARENT_VARIABLE = "ENSEMBLE_EVAL_PARENT"
# As torchrun names them; a supervisor's workers are given the same.
SESSION_VARIABLE = "TORCHELASTIC_RUN_ID"
# Slurm numbers job steps from 0 upwards. The numbers from here on stand for batch scripts and shells.
_FIRST_RESERVED_STEP = 0xFFFFFFF0


class Role(enum.Enum):
    """What a process does for its job."""

    ALONE = enum.auto()
    """It computes all images, or starts workers and becomes their supervisor."""
    SUPERVISOR = enum.auto()
    """It started the workers of this machine; it watches them and writes the tables."""
    WORKER = enum.auto()
    """A supervisor started it; it computes its shard and prints nothing."""
    RANK = enum.auto()
    """torchrun or srun started it; rank 0 reports the progress and writes the tables."""


@dataclass(frozen=True)
class Process:
    """This process among those of its job.

    Attributes:
        rank: Its rank, from 0.
        world_size: The number of processes that share the images.
        local_rank: Its number on its machine.
        session: A text that identifies the start of the job, and seeds the shards.
        role: What it does for the job.
        parent: The process id of a worker's supervisor.
        sharing: The number of processes of the job, including this one, that share its processors.
        local_world_size: The number of processes of the job on its machine, or the least possible number if the
            launcher does not say.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    session: str = ""
    role: Role = Role.ALONE
    parent: int | None = None
    sharing: int = 1
    local_world_size: int = 1

    def __post_init__(self) -> None:
        ranks_fit = 0 <= self.rank < self.world_size and self.local_rank >= 0
        if not ranks_fit or min(self.sharing, self.local_world_size) < 1:
            raise ValueError(f"rank {self.rank} of {self.world_size}")

    @property
    def launched(self) -> bool:
        """Whether a launcher started it; such a process starts no others."""
        return self.role in (Role.WORKER, Role.RANK)

    @property
    def reports(self) -> bool:
        """Whether this process reports the progress and writes the tables."""
        return self.rank == 0 and self.role is not Role.WORKER


def find_process(environment: Mapping[str, str] = os.environ, *, srun: bool = True) -> Process:
    """Describe this process from the variables of torchrun or srun; without them it is alone.

    Args:
        environment: The environment variables.
        srun: Whether the tasks of srun are ranks of one job. With torch.distributed they are not.

    Raises:
        InputError: The launcher's variables are incomplete or are not numbers.
    """
    remedy = f"start with {'torchrun or srun' if srun else 'torchrun'}, or unset them"
    with refusing("the launcher's variables are not usable", remedy, KeyError, ValueError):
        if "WORLD_SIZE" in environment and "RANK" in environment:
            return _torchrun_process(environment)
        if srun and _is_srun_step(environment):
            return _srun_process(environment)
        _require_alone(environment)
    return Process()


def shard_positions(count: int, world_size: int, session: str, blocks: Sequence[int] = ()) -> list[list[int]]:
    """Divide the positions 0 … count - 1 among ranks, each position once, and ascending within a rank.

    The positions are shuffled with the session as seed. So the next start divides the images that a dead rank left
    over among all ranks.

    Args:
        count: The number of positions.
        world_size: The number of ranks.
        session: A text that identifies this start.
        blocks: Lengths of consecutive blocks that one rank gets as a whole; empty for single positions.
    """
    if blocks:
        ends = list(itertools.accumulate(blocks))
        shards = shard_positions(len(blocks), world_size, session)
        runs = [range(end - length, end) for end, length in zip(ends, blocks, strict=True)]
        return [[position for block in shard for position in runs[block]] for shard in shards]
    order = sorted(range(count), key=lambda position: hashlib.sha256(f"{session} {position}".encode()).digest())
    return [sorted(order[rank::world_size]) for rank in range(world_size)]


def _torchrun_process(environment: Mapping[str, str]) -> Process:
    parent = environment.get(PARENT_VARIABLE)
    local_rank = int(environment["LOCAL_RANK"])
    return Process(
        rank=int(environment["RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        local_rank=local_rank,
        # Without the number of restarts, which the agent of each machine counts separately.
        session=environment.get(SESSION_VARIABLE, ""),
        role=Role.WORKER if parent else Role.RANK,
        parent=int(parent) if parent else None,
        sharing=int(environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"])),
        local_world_size=int(environment.get("LOCAL_WORLD_SIZE", local_rank + 1)),
    )


def _require_alone(environment: Mapping[str, str]) -> None:
    """Refuse one of torchrun's variables without the other, because each process would then compute all images.

    Some platforms set them for single processes too, which is accepted.
    """
    for name, alone in (("WORLD_SIZE", 1), ("RANK", 0)):
        if name in environment and int(environment[name]) != alone:
            other = "RANK" if name == "WORLD_SIZE" else "WORLD_SIZE"
            raise ValueError(f"{name}={environment[name]} without {other}")


def _is_srun_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process. A batch script has some of the same variables, but is no task."""
    step = environment.get("SLURM_STEP_ID", "")
    return "SLURM_STEP_NUM_TASKS" in environment and step.isdigit() and int(step) < _FIRST_RESERVED_STEP


def _srun_process(environment: Mapping[str, str]) -> Process:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    local_rank, on_machine = int(environment["SLURM_LOCALID"]), _srun_tasks_here(environment)
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return Process(
        rank=int(environment["SLURM_PROCID"]),
        world_size=world,
        local_rank=local_rank,
        session="/".join(environment.get(name, "0") for name in names),
        # A single task may have several devices, and then starts workers for them.
        role=Role.RANK if world > 1 else Role.ALONE,
        sharing=1 if _has_its_own_processors(environment) else on_machine or world,
        local_world_size=on_machine or local_rank + 1,
    )


def _has_its_own_processors(environment: Mapping[str, str]) -> bool:
    """Whether srun bound this task to some of the processors of the machine."""
    on_machine = environment.get("SLURM_CPUS_ON_NODE", "")
    return on_machine.isdigit() and bound_processors() < int(on_machine)


def _srun_tasks_here(environment: Mapping[str, str]) -> int | None:
    """The number of tasks on this machine, or the largest number on any machine if its own index is not known.

    Machines may have different numbers of tasks: `4(x2),1` means two machines with four tasks and one with one.
    """
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    counts = [int(tasks) for tasks, machines in found for _ in range(int(machines or 1))]
    number = environment.get("SLURM_NODEID", "")
    if number.isdigit() and int(number) < len(counts):
        return counts[int(number)]
    return max(counts, default=None)
