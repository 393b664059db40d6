"""Several processes on one data set: who this is, as its launcher says, and which images are whose.

No process talks to another. The deal depends on nothing that a process could see earlier or later than the
others, so all of them agree on it, and the output folder is all they share.
"""

import enum
import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ensemble_eval.errors import InputError
from ensemble_eval.launch.cpu import bound_processors

# Set by our own launcher for its workers, to its process id.
PARENT_VARIABLE = "ENSEMBLE_EVAL_PARENT"
# Slurm numbers real job steps upwards from 0, and those of batch scripts and shells downwards from here.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0


class Role(enum.Enum):
    """What a process is to its run."""

    ALONE = enum.auto()
    """It does all the work, unless it becomes the supervisor of ranks that it starts."""
    SUPERVISOR = enum.auto()
    """It started the ranks of this machine; it watches them and writes the tables."""
    WORKER = enum.auto()
    """A supervisor started it; it does its share and says nothing."""
    RANK = enum.auto()
    """torchrun or srun started it; the first of them speaks for all and writes the tables."""


@dataclass(frozen=True)
class Place:
    """This process's place among those of its run.

    Attributes:
        rank: from 0.
        world: how many processes share the images.
        local_rank: its number on its machine.
        session: the same text for all of them, and another one for the next start.
        role: what the process is to the run.
        parent: the process id of a worker's supervisor.
        neighbours: processes of the run, itself included, among which the processors that it may use are shared.
        on_machine: processes of the run on its machine, itself included; what is known of them, if the launcher
            does not say.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    session: str = ""
    role: Role = Role.ALONE
    parent: int | None = None
    neighbours: int = 1
    on_machine: int = 1

    @property
    def launched(self) -> bool:
        """Whether a launcher started it, so that it starts no processes of its own."""
        return self.role in (Role.WORKER, Role.RANK)

    @property
    def reports(self) -> bool:
        """Whether this process speaks for all and writes the tables."""
        return self.rank == 0 and self.role is not Role.WORKER


def find_place(environment: Mapping[str, str] = os.environ, *, srun: bool = True) -> Place:
    """The place that torchrun or srun gave this process; without them it is alone.

    Args:
        environment: names and values.
        srun: whether several tasks of srun are ranks of one run; for torch.distributed they are not.

    Raises:
        InputError: the launcher's variables are incomplete or no numbers.
    """
    try:
        if "WORLD_SIZE" in environment and "RANK" in environment:
            return _torchrun_place(environment)
        if srun and _is_srun_step(environment):
            return _srun_place(environment)
        _require_alone(environment)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the launcher's variables are not usable ({error}); "
            f"start with {'torchrun or srun' if srun else 'torchrun'}, or unset them"
        ) from error
    return Place()


def deal(count: int, world: int, session: str, blocks: Sequence[int] = ()) -> list[list[int]]:
    """Deal the positions 0 … count - 1 to `world` ranks, none twice and none padded, each rank's ascending.

    They are shuffled first, differently in every session: what a dead rank left over is then shared by all.

    Args:
        count: of the positions.
        world: how many ranks.
        session: of this start.
        blocks: lengths of the runs of positions that go to one rank as a whole; empty to deal each by itself.
    """
    if blocks:
        ends = list(itertools.accumulate(blocks))
        hands = deal(len(blocks), world, session)
        runs = [range(end - length, end) for end, length in zip(ends, blocks, strict=True)]
        return [[place for block in hand for place in runs[block]] for hand in hands]
    order = sorted(range(count), key=lambda place: hashlib.sha256(f"{session} {place}".encode()).digest())
    return [sorted(order[rank::world]) for rank in range(world)]


def _torchrun_place(environment: Mapping[str, str]) -> Place:
    parent = environment.get(PARENT_VARIABLE)
    local_rank = int(environment["LOCAL_RANK"])
    return _checked(
        Place(
            rank=int(environment["RANK"]),
            world=int(environment["WORLD_SIZE"]),
            local_rank=local_rank,
            # Not with the number of restarts, which every machine's agent counts by itself.
            session=environment.get("TORCHELASTIC_RUN_ID", ""),
            role=Role.WORKER if parent else Role.RANK,
            parent=int(parent) if parent else None,
            neighbours=int(environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"])),
            on_machine=int(environment.get("LOCAL_WORLD_SIZE", local_rank + 1)),
        )
    )


def _require_alone(environment: Mapping[str, str]) -> None:
    """Refuse one of torchrun's variables without the other: each of several processes would do all the work.

    Some platforms set them for single processes too, which is fine.
    """
    for name, alone in (("WORLD_SIZE", 1), ("RANK", 0)):
        if name in environment and int(environment[name]) != alone:
            other = "RANK" if name == "WORLD_SIZE" else "WORLD_SIZE"
            raise ValueError(f"{name}={environment[name]} without {other}")


def _is_srun_step(environment: Mapping[str, str]) -> bool:
    """A batch script has SLURM_PROCID and perhaps SLURM_NTASKS too, but is one process and no step's task."""
    step = environment.get("SLURM_STEP_ID", "")
    return "SLURM_STEP_NUM_TASKS" in environment and step.isdigit() and int(step) < _FIRST_SPECIAL_STEP


def _srun_place(environment: Mapping[str, str]) -> Place:
    world = int(environment["SLURM_STEP_NUM_TASKS"])
    local_rank, on_machine = int(environment["SLURM_LOCALID"]), _srun_tasks_here(environment)
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return _checked(
        Place(
            rank=int(environment["SLURM_PROCID"]),
            world=world,
            local_rank=local_rank,
            session="/".join(environment.get(name, "0") for name in names),
            # One task may still have a machine full of devices to itself.
            role=Role.RANK if world > 1 else Role.ALONE,
            neighbours=1 if _has_its_own_processors(environment) else on_machine or world,
            on_machine=on_machine or local_rank + 1,
        )
    )


def _has_its_own_processors(environment: Mapping[str, str]) -> bool:
    """Whether srun gave this task some of the machine's processors, where it has not the whole machine."""
    on_machine = environment.get("SLURM_CPUS_ON_NODE", "")
    return on_machine.isdigit() and bound_processors() < int(on_machine)


def _srun_tasks_here(environment: Mapping[str, str]) -> int | None:
    """The tasks on this machine, by its number among the step's; without that the most on any of them.

    Machines may hold different numbers of tasks: `4(x2),1` is two machines with four, and one with one.
    """
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    counts = [int(tasks) for tasks, machines in found for _ in range(int(machines or 1))]
    number = environment.get("SLURM_NODEID", "")
    if number.isdigit() and int(number) < len(counts):
        return counts[int(number)]
    return max(counts, default=None)


def _checked(place: Place) -> Place:
    if not 0 <= place.rank < place.world or place.local_rank < 0 or min(place.neighbours, place.on_machine) < 1:
        raise ValueError(f"rank {place.rank} of {place.world}")
    return place
