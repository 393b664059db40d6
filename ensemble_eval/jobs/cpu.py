"""The processors that a process may use, and two settings of one that does its work on them."""

import contextlib
import math
import os
import platform
import sys
from pathlib import Path

# Parameter numbers and the largest useful values, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAX_INT = 2**31 - 1
_ONE_GIB = 1 << 30


def usable_processors() -> int:
    """How many processors this process may use: a job's or container's, not all of the machine.

    A container's quota of processor time counts as the processors that it would keep busy, at least one.
    """
    quota = quota_processors()
    return bound_processors() if quota == math.inf else max(1, min(bound_processors(), int(quota)))


def bound_processors() -> int:
    """How many processors this process is bound to, by the kernel's word."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_compile_workers(ranks: int) -> None:
    """Limit the worker processes of torch's compiler to a rank's part of the processors, before it is loaded.

    By itself it starts one for each processor, up to 32, in each rank. What `TORCHINDUCTOR_COMPILE_THREADS` says
    already stays.

    Args:
        ranks: processes of the run that share the processors which this one may use.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, min(32, usable_processors() // ranks))))


def loaders_beside(ranks: int) -> int:
    """How many threads load images by default: the processors' share of each rank, less one for the rank itself.

    Args:
        ranks: processes of the run that share the processors which this one may use.

    Example:
        >>> loaders_beside(1) == max(1, usable_processors() - 1)
        True
    """
    return max(1, usable_processors() // ranks - 1)


def quota_processors(
    memberships: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> float:
    """The processors' worth of time that Linux's control groups allow this process; infinite without a limit.

    Args:
        memberships: the groups that the process is in, a line each.
        mounted: where the groups are files, of version 2 or 1.
    """
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        # Version 2 has one hierarchy without a name, version 1 one for each set of controllers.
        if not controllers or "cpu" in controllers.split(","):
            folder = mounted / controllers / group.lstrip("/")
            # A group has no more than those around it. A container may see its own as the outermost.
            limits += [_limit(each) for each in (folder, *folder.parents) if each.is_relative_to(mounted)]
    return min(limits)


def _limit(folder: Path) -> float:
    """What one control group allows by itself."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


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
    # Only here: it takes some milliseconds, which help need not.
    import ctypes

    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
    libc.mallopt(_M_TRIM_THRESHOLD, _MAX_INT)
