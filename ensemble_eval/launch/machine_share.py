"""One rank's share of its machine."""

from dataclasses import replace

import torch

from ensemble_eval.launch.cpu import share_compile_workers, usable_processors
from ensemble_eval.launch.devices import device_of_rank
from ensemble_eval.launch.numa import bind_beside
from ensemble_eval.launch.place import Place
from ensemble_eval.launch.signals import die_with


def settle(place: Place, device: str) -> Place:
    """Take this process's place among the ranks of its machine: it ends with its supervisor, and binds its share.

    Args:
        place: of this process, as its launcher says.
        device: see `choose_device`.

    Returns:
        Its place, with as many neighbours as share the processors that are left to it.

    Raises:
        InputError: there is no such device here, or fewer than processes.
    """
    if place.parent is not None:
        die_with(place.parent)
    if not place.launched:
        return place
    return take_share(place, device_of_rank(device, place.local_rank, place.on_machine))


def take_share(place: Place, device: torch.device) -> Place:
    """Bind one of a machine's several ranks beside its GPU, and let it start only its share of compile workers.

    Args:
        place: of this process among those of the run.
        device: that it works with.

    Returns:
        Its place, with as many neighbours as share the processors that are left to it.
    """
    if place.on_machine == 1:
        return place
    before = usable_processors()
    bind_beside(device)
    # The ranks of the other memory nodes are no neighbours any more: of eight on two nodes, four are left.
    neighbours = max(1, round(place.neighbours * usable_processors() / before))
    share_compile_workers(neighbours)
    return replace(place, neighbours=neighbours)
