"""What the figures were measured on."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# What decides how fast half precision is on a CPU.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
_PACKAGES = ("torch", "torchvision", "openvino", "onnxruntime", "onnx", "ttach", "pillow", "numpy")


def machine_facts() -> dict[str, str]:
    """Processor, memory, system and versions, by name."""
    return {
        "machine": f"{_cpu_model()}, {_processors()} processors, {_memory_gib():.0f} GiB, {platform.system()}",
        "CPU flags": ", ".join(_flags()) or "none of those that matter here",
        "threads": os.environ.get("OMP_NUM_THREADS", "each library's own choice"),
        "load when it began": f"{os.getloadavg()[0]:.2f}",
        "versions": ", ".join(_versions()),
    }


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}", f"ensemble-eval {_own_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return found


def _own_version() -> str:
    """The package's version, with the commit where this is a clone."""
    version = metadata.version("ensemble-eval")
    command = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(
            command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version} ({commit.strip()})"


def _processors() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> list[str]:
    present = _cpuinfo("flags").split()
    return [flag for flag in _FLAGS if flag in present]


def _cpuinfo(field: str) -> str:
    """A field of the first processor as Linux lists it; elsewhere nothing."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""
