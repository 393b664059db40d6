"""torch's compiler: fused kernels, and on CUDA the whole network as one captured graph."""

import torch
import torch._dynamo
from torch import Tensor, nn


class Compiled(nn.Module):
    """A network that torch compiles at its first batch.

    Weights stay arguments of the compiled code, so members of one shape share it: the second finds the first
    one's in torch's cache, in this process and on disk.

    Args:
        network: in eval mode.
        device: where it will run.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
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
