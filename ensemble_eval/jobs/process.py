"""One process of a job: its rank, its shard of the images, and the processors that it shares with others.

The processes of an evaluation do not communicate; they share only the output folder. A shard depends on the rank,
the number of ranks and the session, but not on the progress. All processes therefore agree on the shards without
asking each other.
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

# The environment variable in which a supervisor gives its process id to its workers.
PARENT_VARIABLE = "ENSEMBLE_EVAL_PARENT"
# The variable in which torchrun passes its run id. A supervisor sets it for its workers too.
SESSION_VARIABLE = "TORCHELASTIC_RUN_ID"
# The number of a pod in an Indexed Job of Kubernetes, which does not say how many there are.
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
# Slurm numbers job steps from 0 upwards. Numbers from this one upwards are reserved for batch scripts and shells.
_FIRST_RESERVED_STEP = 0xFFFFFFF0


class Role(enum.Enum):
    """What a process does for its job."""

    ALONE = enum.auto()
    """The process computes all images itself, or starts workers and becomes their supervisor."""
    SUPERVISOR = enum.auto()
    """The process started the workers of this machine; it watches them and writes the tables."""
    WORKER = enum.auto()
    """The process was started by a supervisor; it computes its shard and prints nothing."""
    RANK = enum.auto()
    """The process was started by torchrun or srun; rank 0 reports the progress and writes the tables."""
    POD = enum.auto()
    """The process is a pod of an Indexed Job. It waits for no other; the last one to finish writes the tables."""


@dataclass(frozen=True)
class Process:
    """This process among those of its job.

    Attributes:
        rank: The rank of this process, from 0.
        world_size: The number of processes that share the images.
        local_rank: The number of this process on its machine, from 0.
        session: A string that identifies this start of the job. The shards are drawn with it as seed.
        role: What this process does for the job.
        parent: The process id of a worker's supervisor.
        sharing: The number of processes of the job, including this one, that share its processors.
        local_world_size: The number of processes of the job on this machine, or a lower bound if the launcher does
            not provide it.
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
        ranks_are_valid = 0 <= self.rank < self.world_size and self.local_rank >= 0
        if not ranks_are_valid or min(self.sharing, self.local_world_size) < 1:
            raise ValueError(f"rank {self.rank} of {self.world_size}")

    @property
    def launched(self) -> bool:
        """Whether a launcher or a supervisor started this process; it then starts no others."""
        return self.role in (Role.WORKER, Role.RANK, Role.POD)

    @property
    def is_reporting(self) -> bool:
        """Whether this process reports the progress and, unless the last pod does, writes the tables."""
        return self.rank == 0 and self.role is not Role.WORKER


def find_process(environment: Mapping[str, str] = os.environ, *, torchrun_only: bool = False) -> Process:
    """Describe this process from the variables of torchrun, srun or Kubernetes; without them it is alone.

    Args:
        environment: The environment variables.
        torchrun_only: Whether to ignore the variables of srun and Kubernetes. Training does, because it needs
            torchrun to set up torch.distributed.

    Raises:
        InputError: The launcher's variables are incomplete or are not numbers.
    """
    launchers = "torchrun" if torchrun_only else "torchrun, srun or `submit`"
    remedy = f"start with {launchers}, or unset them"
    with refusing("the launcher's variables are not usable", remedy, KeyError, ValueError):
        if "WORLD_SIZE" in environment and "RANK" in environment:
            return _torchrun_process(environment)
        if not torchrun_only and _is_srun_step(environment):
            return _srun_process(environment)
        if not torchrun_only and _INDEX_VARIABLE in environment:
            return _pod_process(environment)
        _refuse_incomplete_torchrun(environment)
    return Process()


def shard_positions(count: int, world_size: int, session: str, blocks: Sequence[int] = ()) -> list[list[int]]:
    """Divide the positions 0 to count - 1 among the ranks, and return the ascending positions of each rank.

    Each position is given to one rank. The positions are shuffled with the session as seed. When the job is
    started again, the images that a dead rank did not finish are therefore spread over all ranks.

    Args:
        count: The number of positions.
        world_size: The number of ranks.
        session: A string that identifies this start of the job.
        blocks: Lengths of consecutive blocks of positions. A block is never split between ranks. Empty to divide
            single positions.
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
        # torchrun's restart count is not part of the session, because the agent on each machine counts separately.
        session=environment.get(SESSION_VARIABLE, ""),
        role=Role.WORKER if parent else Role.RANK,
        parent=int(parent) if parent else None,
        sharing=int(environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"])),
        local_world_size=int(environment.get("LOCAL_WORLD_SIZE", local_rank + 1)),
    )


def _refuse_incomplete_torchrun(environment: Mapping[str, str]) -> None:
    """Refuse one of torchrun's variables without the other, because each process would then compute all images.

    Some platforms set them for single processes too, which is accepted.
    """
    for name, alone in (("WORLD_SIZE", 1), ("RANK", 0)):
        if name in environment and int(environment[name]) != alone:
            other = "RANK" if name == "WORLD_SIZE" else "WORLD_SIZE"
            raise ValueError(f"{name}={environment[name]} without {other}")


def _is_srun_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process. A batch script has some of the same variables, but is no task of srun."""
    step = environment.get("SLURM_STEP_ID", "")
    return "SLURM_STEP_NUM_TASKS" in environment and step.isdigit() and int(step) < _FIRST_RESERVED_STEP


def _srun_process(environment: Mapping[str, str]) -> Process:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    local_rank, tasks_on_machine = int(environment["SLURM_LOCALID"]), _srun_tasks_here(environment)
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return Process(
        rank=int(environment["SLURM_PROCID"]),
        world_size=world,
        local_rank=local_rank,
        session="/".join(environment.get(name, "0") for name in names),
        # A single task may have several devices, and then starts workers for them.
        role=Role.RANK if world > 1 else Role.ALONE,
        sharing=1 if _has_its_own_processors(environment) else tasks_on_machine or world,
        local_world_size=tasks_on_machine or local_rank + 1,
    )


def _pod_process(environment: Mapping[str, str]) -> Process:
    if "WORLD_SIZE" not in environment:
        raise ValueError(f"{_INDEX_VARIABLE} without WORLD_SIZE, which is the number of completions")
    world = int(environment["WORLD_SIZE"])
    return Process(
        rank=int(environment[_INDEX_VARIABLE]),
        world_size=world,
        # A pod that replaces another takes over its shard, so the session is that of the Job.
        session=environment.get(SESSION_VARIABLE, ""),
        role=Role.POD if world > 1 else Role.ALONE,
    )


def _has_its_own_processors(environment: Mapping[str, str]) -> bool:
    """Whether srun bound this task to some of the processors of the machine."""
    cpus_on_machine = environment.get("SLURM_CPUS_ON_NODE", "")
    return cpus_on_machine.isdigit() and bound_processors() < int(cpus_on_machine)


def _srun_tasks_here(environment: Mapping[str, str]) -> int | None:
    """Return the number of tasks on this machine, or None if Slurm gives no numbers.

    If the index of this machine is not known, the largest number on any machine is returned. Machines may have
    different numbers of tasks: `4(x2),1` means two machines with four tasks and one with one.
    """
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    counts = [int(tasks) for tasks, machines in found for _ in range(int(machines or 1))]
    node_index = environment.get("SLURM_NODEID", "")
    if node_index.isdigit() and int(node_index) < len(counts):
        return counts[int(node_index)]
    return max(counts, default=None)
