"""The processors that a process may use, and two settings for a process that computes on them."""

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
# A request takes a few times as long as decoding its image.
_REQUESTS_PER_PROCESSOR = 4


def usable_processors() -> int:
    """Return the number of processors that this process may use, within the limits of its batch job or container.

    A quota of processor time counts as the number of processors that it would keep busy, at least one.
    """
    quota = quota_processors()
    return bound_processors() if quota == math.inf else max(1, min(bound_processors(), int(quota)))


def bound_processors() -> int:
    """Return the number of processors that the kernel has bound this process to."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_compile_workers(ranks: int) -> None:
    """Limit the worker processes of torch's compiler to a rank's share of the processors, before it is loaded.

    By default it starts one for each processor, up to 32, in each rank. A value that the user has set in
    `TORCHINDUCTOR_COMPILE_THREADS` is kept.

    Args:
        ranks: The number of ranks that share the processors of this process.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, min(32, usable_processors() // ranks))))


def default_loaders(ranks: int, *, in_bucket: bool = False) -> int:
    """Return the default number of loading threads: a rank's share of the processors, less one.

    Args:
        ranks: The number of ranks that share the processors of this process.
        in_bucket: Whether the images are in a bucket. Most threads then wait for an answer, while one decodes.

    Example:
        >>> default_loaders(1) == max(1, usable_processors() - 1)
        True
    """
    return max(1, usable_processors() // ranks - 1) * (_REQUESTS_PER_PROCESSOR if in_bucket else 1)


def quota_processors(
    memberships: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the processor time per second that Linux's control groups allow; infinite without a limit.

    Args:
        memberships: The file with the groups of the process, one per line.
        mounted: The folder where the groups of version 1 or 2 are mounted.
    """
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        # Version 2 has one hierarchy without a name; version 1 has one for each set of controllers.
        if not controllers or "cpu" in controllers.split(","):
            folder = mounted / controllers / group.lstrip("/")
            # The limits of the parent groups apply too. A container may see its own group as the outermost.
            limits += [_limit(each) for each in (folder, *folder.parents) if each.is_relative_to(mounted)]
    return min(limits)


def _limit(folder: Path) -> float:
    """Return the limit of a single control group."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep soon after their work. Call it before torch is loaded.

    By default the threads spin for milliseconds. Beside loading threads or other busy processes, they then take
    processor time from the thread that they wait for. With two busy processes on two cores, training ran 3 to
    7 times as many images per second without spinning.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Keep memory that torch frees, so that the next batch can use it without page faults.

    glibc returns freed blocks above 32 MiB to the kernel. The activations of a batch are that large, and zeroing
    new pages took two thirds of the forward pass (EfficientNet-lite0, batch 48, 2 cores: 31 instead of 89 crops
    per second). Without glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    # Imported here, because the import takes milliseconds that `--help` need not wait for.
    import ctypes

    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
    libc.mallopt(_M_TRIM_THRESHOLD, _MAX_INT)
