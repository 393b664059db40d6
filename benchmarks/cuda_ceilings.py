"""What bounds every engine on a device: its matrix products, its memory, and what a crop needs of both."""

import subprocess
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.networks import random_network
from benchmarks.results import Spread, spread
from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.models.layers import fold_batch_norm

_CLOCKS = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.draw,temperature.gpu"
_ROUNDS, _REPEATED = 9, 5


def products_per_second(device: torch.device, dtype: torch.dtype, size: int) -> Spread:
    """Operations a second of square matrix products, a multiply-add counted as two."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)

    def multiply() -> None:
        with full_float32():
            torch.mm(left, right, out=product)

    return _rates(device, multiply, 2 * size**3)


def bytes_per_second(device: torch.device, size: int) -> Spread:
    """Bytes a second that a copy within the device's memory reads and writes."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _rates(device, lambda: target.copy_(source), 2 * size)


def activation_bytes(width: float, bytes_each: int) -> int:
    """What one crop's way through a GoogLeNet reads and writes at least, if no layer's output stays in a cache.

    Every convolution, pooling and product reads its input and writes its output once; bias, ReLU, batch norm and
    concatenation come for nothing, as in fused kernels. Weights are left out: all crops of a batch share them.
    """
    counted = [0]

    def count(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted[0] += (inputs[0].numel() + output.numel()) * bytes_each

    with torch.device("meta"):
        crop = torch.empty(1, 3, CROP_SIZE, CROP_SIZE)
    network = fold_batch_norm(random_network(0, width)).to("meta")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(crop)
    return counted[0]


def clocks() -> str:
    """Name, clocks, power and temperature of the GPUs as nvidia-smi says them; a sentence where it is not."""
    command = ["nvidia-smi", f"--query-gpu={_CLOCKS}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "not known: there is no nvidia-smi"
    return f"{'; '.join(said.strip().splitlines())} ({_CLOCKS})"


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rates(device: torch.device, act: Callable[[], object], amount: float) -> Spread:
    act()
    rates = []
    for _ in range(_ROUNDS):
        wait_for(device)
        began = time.perf_counter()
        for _ in range(_REPEATED):
            act()
        wait_for(device)
        rates.append(_REPEATED * amount / (time.perf_counter() - began))
    return spread(rates)
