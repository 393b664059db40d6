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
from ensemble_eval.jobs.process import Process, find_process

Value = TypeVar("Value")

# The others wait while the first reads and writes; torch's default of ten minutes may be too short.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes(Process):
    """This process among those that train together; the first of them reads and writes the output folder."""

    def loaders(self, on_machine: int) -> int:
        """This process's share of the loading processes on its machine: at least one, unless there are none."""
        share, over = divmod(on_machine, self.local_world_size)
        return max(min(on_machine, 1), share + (self.local_rank < over))

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """A network with gradients averaged over the processes; the network itself in a single process."""
        if self.world_size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, in order of rank. All processes must call this."""
        if self.world_size == 1:
            return [value]
        values: list[Value | None] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # every place is filled

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What `make` returns in the first process, where alone it is called. All processes must call this.

        Raises:
            InputError: It was raised in the first process.
        """
        if self.world_size == 1:
            return make()
        outcome: list[tuple[Value | None, str | None]] = [(None, None)]
        if self.is_reporting:
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
        """Give a network the first process's buffers. All processes must call this."""
        if self.world_size > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.world_size > 1:
            distributed.barrier()


@contextmanager
def joined_processes(environment: Mapping[str, str] = os.environ, device_type: str = "cpu") -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun this process is alone.

    Args:
        environment: The variables of the environment.
        device_type: `cpu` or `cuda`.

    Raises:
        InputError: The environment is not what torchrun sets.
    """
    processes = Processes(**vars(find_process(environment, torchrun_only=True)))
    if processes.world_size == 1:
        yield processes
        return
    backends = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
    distributed.init_process_group(backends[device_type], timeout=_PATIENCE)
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
