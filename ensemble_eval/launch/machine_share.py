"""One rank's share of its machine."""

from dataclasses import replace

import torch

from ensemble_eval.launch.cpu import share_compile_workers, usable_processors
from ensemble_eval.launch.numa import bind_beside
from ensemble_eval.launch.place import Place


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
