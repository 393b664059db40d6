"""Choosing the device that `device` names, and the processes that it takes."""

import os
from collections.abc import Mapping

import torch

from ensemble_eval.errors import InputError

# CUDA's own: numbers or UUIDs of the devices that a process may see. It numbers them anew from 0.
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def choose_device(name: str) -> torch.device:
    """The device called `name`: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        _require_cuda(device)
    return device


def devices_for_ranks(name: str, ranks: int | None) -> int:
    """How many processes a run on this machine takes: one per device, or on the CPU as many as asked for.

    Args:
        name: see `choose_device`.
        ranks: processes asked for; None for one for each device.

    Raises:
        InputError: more ranks than devices, or no rank at all.
    """
    if ranks is not None and ranks < 1:
        raise InputError(f"`ranks` is at least 1, not {ranks}")
    device = choose_device(name)
    if device.type == "cpu":
        return ranks or 1
    devices = torch.cuda.device_count() if device.index is None else 1
    if ranks is not None and ranks > devices:
        raise InputError(f"`ranks={ranks}`: there are {devices} CUDA devices for them, and each rank takes one")
    return ranks or devices


def device_of_rank(
    name: str, local_rank: int, on_machine: int = 1, environment: Mapping[str, str] = os.environ
) -> torch.device:
    """`choose_device` for a rank; with CUDA each rank of a machine takes a device of its own.

    A launcher lets each of them see all devices, or one that is its own.

    Args:
        name: see `choose_device`. Processes that are given the same `cuda:N` share it.
        local_rank: the process's number on its machine.
        on_machine: how many they are there.
        environment: names and values.

    Raises:
        InputError: no such device here, or fewer than processes.
    """
    device = choose_device(name)
    if device.type != "cuda" or device.index is not None:
        return device
    visible = torch.cuda.device_count()
    # A launcher that gives each process one device says so in this variable.
    its_own = visible == 1 and VISIBLE_DEVICES in environment
    if on_machine > visible and not its_own:
        raise InputError(
            f"{on_machine} processes were started on this machine, and they see {visible} CUDA devices; start one "
            'for each device, or name one that all of them share, as `device="cuda:0"`'
        )
    return torch.device("cuda", local_rank % visible)


def device_name(device: torch.device) -> str:
    """What the device is, for the run's record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _require_cuda(device: torch.device) -> None:
    count = torch.cuda.device_count()
    if not torch.cuda.is_available():
        raise InputError(
            f'`device="{device}"`: this machine has no usable CUDA device{_hidden()}; choose `device="cpu"`'
        )
    if device.index is not None and device.index >= count:
        raise InputError(
            f'`device="{device}"`: this machine has {count} CUDA devices, cuda:0 to cuda:{count - 1}{_hidden()}'
        )


def _hidden() -> str:
    """What hides devices from this process, if anything does."""
    visible = os.environ.get(VISIBLE_DEVICES)
    return "" if visible is None else f' that {VISIBLE_DEVICES}="{visible}" lets it see'


def use_one_thread() -> None:
    """On the CPU a rank has one thread unless OMP_NUM_THREADS says more.

    The last bits of a convolution depend on the number of threads, so it must not follow from how many ranks
    share a machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
