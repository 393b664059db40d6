"""Chooses the device of a process, and the number of processes that a machine takes."""

import os
from collections.abc import Mapping

import torch

from ensemble_eval.errors import InputError

# CUDA's variable with the numbers or UUIDs of the visible devices, which CUDA renumbers from 0.
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def choose_device(name: str) -> torch.device:
    """Return the device called `name`: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: This machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        _require_cuda(device)
    return device


def devices_for_ranks(name: str, ranks: int | None) -> int:
    """Return the number of processes on this machine: one per device, or on the CPU the requested number.

    Args:
        name: The device; see `choose_device`.
        ranks: The requested number; None for one per device.

    Raises:
        InputError: There are more ranks than devices.
    """
    device = choose_device(name)
    if device.type == "cpu":
        return ranks or 1
    devices = torch.cuda.device_count() if device.index is None else 1
    if ranks is not None and ranks > devices:
        raise InputError(f"`ranks={ranks}`: there are {devices} CUDA devices for them, and each rank takes one")
    return ranks or devices


def device_of_rank(
    name: str, local_rank: int, on_machine: int, environment: Mapping[str, str] = os.environ
) -> torch.device:
    """As `choose_device`, for a rank; with CUDA each rank of a machine takes another device.

    Launchers either let each rank see all devices, or only its own.

    Args:
        name: The device; see `choose_device`. Processes with the same `cuda:N` share it.
        local_rank: The number of the process on its machine.
        on_machine: The number of processes on the machine.
        environment: The environment variables.

    Raises:
        InputError: There is no such device, or there are fewer devices than processes.
    """
    device = choose_device(name)
    if device.type != "cuda" or device.index is not None:
        return device
    visible = torch.cuda.device_count()
    # A launcher that gives each process one device sets this variable.
    its_own = visible == 1 and VISIBLE_DEVICES in environment
    if on_machine > visible and not its_own:
        raise InputError(
            f"{on_machine} processes were started on this machine, and they see {visible} CUDA devices; start one "
            'for each device, or name one that all of them share, as `device="cuda:0"`'
        )
    return torch.device("cuda", local_rank % visible)


def device_name(device: torch.device) -> str:
    """Return the name of the hardware, for the record of a job."""
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
    """Return a phrase about the variable that hides devices from this process, if it is set."""
    visible = os.environ.get(VISIBLE_DEVICES)
    return "" if visible is None else f' that {VISIBLE_DEVICES}="{visible}" lets it see'


def use_one_thread() -> None:
    """Use one thread on the CPU unless OMP_NUM_THREADS is set.

    The last bits of a convolution depend on the number of threads. So this number must not depend on how many
    ranks share a machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
