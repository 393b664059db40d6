"""torch's compiler: fused kernels, and on CUDA the whole network as one captured graph."""

from typing import cast

import torch
from torch import nn


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """A network that torch compiles at its first batch.

    Weights stay arguments of the compiled code, so members of one shape share it: the second finds the first
    one's in torch's cache, in this process and on disk.

    Args:
        network: in eval mode.
        device: where it will run.
    """
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return cast(nn.Module, torch.compile(network, mode=mode, dynamic=False))
