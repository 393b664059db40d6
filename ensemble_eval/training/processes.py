"""The processes that train one member together, as `torchrun` starts them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ensemble_eval.errors import InputError
from ensemble_eval.jobs.process import find_process

Value = TypeVar("Value")

# The others wait while the first reads and writes; torch's default of ten minutes may be too short.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process among all of a training: `rank` of `world`, `local_rank` of `on_machine` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    on_machine: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that reads and writes the output folder."""
        return self.rank == 0

    def loaders(self, on_machine: int) -> int:
        """This process's share of its machine's loading processes: none if there are none, else at least one."""
        share, over = divmod(on_machine, self.on_machine)
        return max(min(on_machine, 1), share + (self.local_rank < over))

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

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What `make` gives in the first process, the only one where it is called. All of them must call this.

        Raises:
            InputError: it did so there.
        """
        if self.world == 1:
            return make()
        outcome: list[tuple[Value | None, str | None]] = [(None, None)]
        if self.first:
            try:
                outcome = [(make(), None)]
            except InputError as error:
                outcome = [(None, str(error))]
        distributed.broadcast_object_list(outcome, src=0)
        value, refusal = outcome[0]
        if refusal is not None:
            raise InputError(refusal)
        return value  # type: ignore[return-value]  # the first's, which is a Value

    def take_buffers_of_first(self, network: nn.Module) -> None:
        """Give a network the first process's buffers; its parameters are the same in all. All must call this."""
        if self.world > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined_processes(environment: Mapping[str, str] = os.environ, device_type: str = "cpu") -> Iterator[Processes]:
    """Join the processes that the launcher's environment speaks of; without one there is this alone.

    Args:
        environment: names and values.
        device_type: where they train, `cpu` or `cuda`.

    Raises:
        InputError: the environment is not what torchrun sets.
    """
    process = find_process(environment, srun=False)
    processes = Processes(process.rank, process.world_size, process.local_rank, process.local_world_size)
    if processes.world == 1:
        yield processes
        return
    backends = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
    distributed.init_process_group(backends[device_type], timeout=_PATIENCE)
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
