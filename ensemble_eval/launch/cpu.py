"""The processors that a process may use, and two settings of one that does its work on them."""

import ctypes
import os
import platform
import sys

# Parameter numbers and the largest useful values, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAX_INT = 2**31 - 1
_ONE_GIB = 1 << 30


def usable_processors() -> int:
    """How many processors this process may use: a job's or container's, not all of the machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep soon after their work; torch must not be loaded yet.

    By default they spin for milliseconds: beside loaders, or anything else that wants a processor, they then
    take it from the very thread they wait for. Measured with two busy processes beside it on two cores: 3 to
    7 times the images a second in training.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Keep memory that torch frees, so that the next batch need not fault it in again.

    glibc hands blocks above 32 MiB back to the kernel on every free. Activations of a batch are that large,
    and zeroing their pages anew cost two thirds of the forward pass when measured (EfficientNet-lite0, batch
    48, 2 cores: 31 against 89 crops per second). Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
    libc.mallopt(_M_TRIM_THRESHOLD, _MAX_INT)
