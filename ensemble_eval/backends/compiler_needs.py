"""What torch's compiler needs of a machine beside torch itself."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch

_OTHERWISE = 'or choose `backend="torch"`'


def missing_for_compiler(device: torch.device) -> str | None:
    """What torch's compiler lacks to compile for a device, with the remedy; None if it lacks nothing.

    For a CPU it writes C++. For CUDA it has Triton make the kernels, which builds a small C extension of Python
    to launch each of them.
    """
    if device.type == "cpu":
        if _first_program("CXX", "c++", "g++") is None:
            return f"a C++ compiler, and there is none; install g++, {_OTHERWISE}"
        return None
    if importlib.util.find_spec("triton") is None:
        return f"the package triton, which is not installed; pip install triton, {_OTHERWISE}"
    # The environment's word is taken as it is: where it names nothing, Triton looks no further.
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"a C compiler, and CC names {named!r}, which is not there; correct or unset CC, {_OTHERWISE}"
    if named is None and _first_program(None, "gcc", "clang") is None:
        return f"a C compiler, and there is neither gcc nor clang; install one, set CC, {_OTHERWISE}"
    header = _include_folder() / "Python.h"
    if not header.is_file():
        return f"Python's headers, and {header} is not there; install python3-dev or python3-devel, {_OTHERWISE}"
    return None


def _first_program(variable: str | None, *names: str) -> str | None:
    named = os.environ.get(variable) if variable else None
    return next((path for name in (named, *names) if name and (path := shutil.which(name))), None)


def _include_folder() -> Path:
    """As Triton finds it: Debian's own scheme for packages outside the distribution has no headers."""
    scheme = sysconfig.get_default_scheme()
    return Path(sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"])
