"""A rank's part of its machine: it ends with its supervisor, and is bound to the processors beside its GPU."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ensemble_eval.jobs.cpu import limit_compile_workers, usable_processors
from ensemble_eval.jobs.devices import device_of_rank
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import die_with

_PCI_DEVICES, _NODES = Path("/sys/bus/pci/devices"), Path("/sys/devices/system/node")


def bind(process: Process, device: str) -> Process:
    """Tie a worker to its supervisor, and bind a rank to its part of the machine.

    Args:
        process: This process, as its launcher says.
        device: See `choose_device`.

    Returns:
        The process, with as many as share the processors that are left to it.

    Raises:
        InputError: There is no such device here, or there are fewer than processes.
    """
    if process.parent is not None:
        die_with(process.parent)
    if not process.launched:
        return process
    return bind_rank(process, device_of_rank(device, process.local_rank, process.local_world_size))


def bind_rank(process: Process, device: torch.device) -> Process:
    """Bind a rank beside its GPU, and limit the compile workers that it starts, where its machine has several."""
    if process.local_world_size == 1:
        return process
    before = usable_processors()
    bind_beside(device)
    # The ranks of the other memory nodes do not share any more: of eight on two nodes, four are left.
    sharing = max(1, round(process.sharing * usable_processors() / before))
    limit_compile_workers(sharing)
    return replace(process, sharing=sharing)


def bind_beside(device: torch.device) -> frozenset[int]:
    """Bind this thread, and those that it starts from now on, to the processors beside a GPU.

    Pinned memory that they write first then lies beside the GPU too. Processors that the process may not use
    stay out; where nothing would be left, or nothing would change, nothing is done. So it is on a CPU, on
    machines with one memory node, and where the machine does not say which is the GPU's.

    Args:
        device: the one that this process works with, of several of them.

    Returns:
        The processors that it may use now.
    """
    if sys.platform != "linux":
        return frozenset()
    allowed = frozenset(os.sched_getaffinity(0))
    if device.type != "cuda":
        return allowed
    chosen = allowed & processors_beside(pci_address(device))
    if not chosen or chosen == allowed:
        return allowed
    os.sched_setaffinity(0, chosen)
    return chosen


def pci_address(device: torch.device) -> str:
    """A CUDA device's address on the bus, as Linux writes it: `0000:3b:00.0`."""
    there: Any = torch.cuda.get_device_properties(device)  # torch's stubs lack these
    return f"{there.pci_domain_id:04x}:{there.pci_bus_id:02x}:{there.pci_device_id:02x}.0"


def processors_beside(address: str, pci_devices: Path = _PCI_DEVICES, nodes: Path = _NODES) -> frozenset[int]:
    """The processors of the memory node that a device is at; none where there is one node, or that is not said.

    Args:
        address: of the device on the bus, `0000:3b:00.0`.
        pci_devices: where Linux's sysfs has a folder for each device (Documentation/ABI/testing/sysfs-bus-pci).
        nodes: where it has a folder for each memory node (Documentation/ABI/stable/sysfs-devices-node).
    """
    try:
        node = int((pci_devices / address / "numa_node").read_text())
        if node < 0 or len(list(nodes.glob("node[0-9]*"))) < 2:
            return frozenset()
        return processor_list((nodes / f"node{node}" / "cpulist").read_text())
    except (OSError, ValueError):
        return frozenset()


def processor_list(text: str) -> frozenset[int]:
    """Linux's list of processors as numbers.

    Example:
        >>> sorted(processor_list("0-2,8"))
        [0, 1, 2, 8]
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
