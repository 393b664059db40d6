"""Graphs that are written for batches of one size."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_batches_of(size: int | None, batch: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """What a graph makes of a batch of any size: one batch of its own after the other, the last padded.

    Args:
        size: the batch size that the graph is written for; None for any.
        batch: [B, ...].
        run: what is called; its outcome has one row for each of its inputs, and may have further axes of length 1.

    Returns:
        [B, outputs].

    Example:
        >>> in_batches_of(2, torch.arange(3.0)[:, None], lambda rows: 10 * rows[..., None]).flatten().tolist()
        [0.0, 10.0, 20.0]
    """
    size = size or len(batch)
    parts = []
    for part in torch.split(batch, size):
        missing = size - len(part)
        whole = torch.cat([part, part[-1:].expand(missing, *[-1] * (part.ndim - 1))]) if missing else part
        parts.append(run(whole).reshape(size, -1)[: len(part)])
    return torch.cat(parts)
