"""The losses of an epoch, summed where they are computed."""

import torch
from torch import Tensor


class RunningLoss:
    """The sum of losses on their device, and the first of them that was no finite number.

    Adding never waits for the device; reading does. So what reads it may do so now and then, not at every step.

    Args:
        device: where the losses are.
        total: what is in the sum already.

    Example:
        >>> losses = RunningLoss(torch.device("cpu"))
        >>> losses.add(torch.tensor(0.5), step=1)
        >>> losses.add(torch.tensor(2.0), step=2)
        >>> losses.total, losses.first_not_finite
        (2.5, None)
    """

    def __init__(self, device: torch.device, total: float = 0.0) -> None:
        self._total = torch.tensor(total, dtype=torch.float64, device=device)
        self._first_not_finite = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, step: int) -> None:
        """Add a step's loss.

        Args:
            loss: a scalar.
            step: its number, from 1.
        """
        loss = loss.detach()
        self._total += loss.double()
        news = ~loss.isfinite() & (self._first_not_finite == 0)
        self._first_not_finite.masked_fill_(news, step)

    @property
    def total(self) -> float:
        """The sum, in float64."""
        return float(self._total)

    @property
    def first_not_finite(self) -> int | None:
        """The step of the first loss that was NaN or infinite."""
        return int(self._first_not_finite) or None
