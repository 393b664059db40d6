"""The processes that train one member together, as `torchrun` starts them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ensemble_eval.launch.place import find_place

Value = TypeVar("Value")

# The others wait while the first validates and writes; torch's default of ten minutes may be too short.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process's place: `rank` of `world`, and its number on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that validates and writes."""
        return self.rank == 0

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """`network` with gradients averaged over the processes; itself where there is but one."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, in order of rank. All of them must call."""
        if self.world == 1:
            return [value]
        values: list[Value | None] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # every place is filled

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined_processes(environment: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """Join the processes that the launcher's environment speaks of; without one there is this alone.

    Raises:
        InputError: the environment is not what torchrun sets.
    """
    place = find_place(environment, srun=False)
    processes = Processes(place.rank, place.world, place.local_rank)
    if processes.world == 1:
        yield processes
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
