"""torch's compiler: fused kernels, and on CUDA the whole network as one captured graph."""

from typing import cast

import torch
import torch._dynamo
from torch import nn


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """A network that torch compiles at its first batch.

    Weights stay arguments of the compiled code, so members of one shape share it: the second finds the first
    one's in torch's cache, in this process and on disk.

    Args:
        network: in eval mode.
        device: where it will run.
    """
    # A batch may be halved nine times, each time another shape; beyond the limit torch would go on without
    # compiling and say nothing.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return cast(nn.Module, torch.compile(network, mode=mode, dynamic=False))
