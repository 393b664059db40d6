"""Ranks of one machine on the images of a job of detection, as `run` has them."""

import contextlib
import uuid
from collections.abc import Generator
from dataclasses import dataclass

from ensemble_eval.launch.devices import devices_for_ranks, use_one_thread
from ensemble_eval.launch.place import Place


@dataclass(frozen=True)
class Ranks:
    """The processes that a command is to start on its machine.

    Attributes:
        asked: how many; None for one for each CUDA device, or one on the CPU.
        arguments: the command line of each.
    """

    asked: int | None = None
    arguments: tuple[str, ...] = ()


def ranks_to_start(ranks: Ranks, place: Place, device: str) -> int:
    """How many ranks this process starts; 0 where it does the work itself. It has one thread if there are several.

    Args:
        ranks: asked for.
        place: of this process.
        device: see `choose_device`.

    Raises:
        InputError: more ranks than devices, or no rank at all.
    """
    count = place.world if place.launched else devices_for_ranks(device, ranks.asked)
    if count > 1 or ranks.asked is not None:
        use_one_thread()
    return count if count > 1 and not place.launched else 0


def run_ranks(ranks: Ranks, count: int) -> Generator[None, None, None]:
    """Start the ranks and wait for them; yields once a second. Close the generator if you leave it early.

    Raises:
        WorkerFailedError: a rank failed; the others were told to stop.
        StopRequestedError: the ranks were told to stop by a signal.
    """
    # Only here: a process that is alone has no use for torch's launcher, and importing it takes time.
    from ensemble_eval.launch.ranks import run_workers

    with contextlib.closing(run_workers(ranks.arguments, count, uuid.uuid4().hex)) as running:
        yield from running
