"""Binds a rank to the processors beside its GPU, and a worker to the life of its supervisor."""

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
        process: This process, as described by its launcher.
        device: The device; see `choose_device`.

    Returns:
        The process, with the number of ranks that share the processors left to it.

    Raises:
        InputError: There is no such device, or there are fewer devices than processes.
    """
    if process.parent is not None:
        die_with(process.parent)
    if not process.launched:
        return process
    return bind_rank(process, device_of_rank(device, process.local_rank, process.local_world_size))


def bind_rank(process: Process, device: torch.device) -> Process:
    """If a machine has several ranks, bind this one beside its GPU and limit its compiler processes."""
    if process.local_world_size == 1:
        return process
    before = usable_processors()
    bind_beside(device)
    # Ranks on other memory nodes no longer share: of eight ranks on two nodes, four remain.
    sharing = max(1, round(process.sharing * usable_processors() / before))
    limit_compile_workers(sharing)
    return replace(process, sharing=sharing)


def bind_beside(device: torch.device) -> frozenset[int]:
    """Bind this thread, and the threads that it starts later, to the processors beside a GPU.

    Pinned memory is then allocated beside the GPU too. Processors that the process may not use stay excluded.
    Nothing changes on a CPU, on machines with one memory node, or if the memory node of the GPU is not known.

    Args:
        device: The device of this process.

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
    """Return the address of a CUDA device on the PCI bus, as Linux writes it: `0000:3b:00.0`."""
    there: Any = torch.cuda.get_device_properties(device)  # torch's stubs lack these
    return f"{there.pci_domain_id:04x}:{there.pci_bus_id:02x}:{there.pci_device_id:02x}.0"


def processors_beside(address: str, pci_devices: Path = _PCI_DEVICES, nodes: Path = _NODES) -> frozenset[int]:
    """Return the processors of a device's memory node; none if there is only one node or if it is not known.

    Args:
        address: The address on the PCI bus, such as `0000:3b:00.0`.
        pci_devices: The folder in sysfs with a folder for each device (Documentation/ABI/testing/sysfs-bus-pci).
        nodes: The folder with a folder for each memory node (Documentation/ABI/stable/sysfs-devices-node).
    """
    try:
        node = int((pci_devices / address / "numa_node").read_text())
        if node < 0 or len(list(nodes.glob("node[0-9]*"))) < 2:
            return frozenset()
        return processor_list((nodes / f"node{node}" / "cpulist").read_text())
    except (OSError, ValueError):
        return frozenset()


def processor_list(text: str) -> frozenset[int]:
    """Parse a list of processors as Linux writes it.

    Example:
        >>> sorted(processor_list("0-2,8"))
        [0, 1, 2, 8]
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
