"""The backends of torch: its own kernels, which always work, and those that its compiler makes of a network.

The compiler fuses kernels, and captures the whole network as one graph on CUDA.
"""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.settings import Precision

_OTHERWISE = 'or choose `backend="torch"`'


class TorchBackend(NetworkPredict):
    """Runs a network with torch, channels last.

    Args:
        name, preprocess, num_classes: of `NetworkPredict`.
        network: in eval mode, compiled or not; normalised float [B, 3, 224, 224] -> logits [B, classes].
        device: where it runs.
        precision: of the convolutions; the softmax is float32 in any case.
        cast_once: cast the weights to the precision now; `preprocess` casts the input. Otherwise torch's autocast
            casts both in each pass, layer by layer.
        capturable: whether the network asks the same of its device for every batch, whatever the pixels.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        num_classes: int,
        device: torch.device,
        precision: Precision,
        *,
        cast_once: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(name, preprocess, num_classes)
        self.capturable = capturable
        dtype = getattr(torch, precision)
        # Channels last more than doubles eager throughput of these networks on a CPU.
        self._network = network.to(device, dtype if cast_once else None, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self._device = device
        # Kernels that somebody's network launches by itself go to torch's current device.
        self._as_current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        self._autocast_dtype = torch.float32 if cast_once else dtype

    def _logits(self, normalised: Tensor) -> Tensor:
        dtype = self._autocast_dtype
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with self._as_current, full_float32(), autocast:
            logits: Tensor = self._network(normalised)
            return logits


class Compiled(nn.Module):
    """A network that torch compiles at its first batch.

    Weights stay arguments of the compiled code, so members of one shape share it: the second finds the first
    one's in torch's cache, in this process and on disk.

    Args:
        network: in eval mode.
        device: where it will run.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        # Only here: it takes more than a second to import.
        import torch._dynamo

        super().__init__()
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._compiled = torch.compile(network, mode=mode, dynamic=False)
        # A batch may be halved nine times, each time another shape; beyond the limit torch would go on without
        # compiling and say nothing.
        self._limits = torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True)

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        with self._limits:
            outputs: Tensor = self._compiled(x)
            return outputs


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
