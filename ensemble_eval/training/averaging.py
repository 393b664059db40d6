"""Polyak averaging: the equal mean of a network's iterates."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class IterateMean(AveragedModel):
    """torch's `AveragedModel`, on a CPU bit for bit, whose count stays on the CPU.

    torch's own copies its count to the device and reads it back at every step: each time the CPU waits until the
    device has done all that it was given.

    Attributes:
        module: a copy of the network; its parameters are the mean, its buffers those of the last iterate.
        n_averaged: how many iterates are in it, an int64 scalar on the CPU.

    Example:
        >>> network = torch.nn.Linear(1, 1, bias=False)
        >>> mean = IterateMean(network)
        >>> for weight in (1.0, 2.0, 6.0):
        ...     _ = torch.nn.init.constant_(network.weight, weight)
        ...     mean.update_parameters(network)
        >>> mean.module.weight.item(), int(mean.n_averaged)
        (3.0, 3)
    """

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the network's present parameters into the mean."""
        mean, current = (cast(list[Tensor], list(each.parameters())) for each in (self.module, model))
        if self.n_averaged == 0:
            torch._foreach_copy_(mean, current)
        else:
            steps = torch._foreach_sub(current, mean)
            torch._foreach_div_(steps, int(self.n_averaged) + 1)
            torch._foreach_add_(mean, steps)
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.n_averaged += 1
