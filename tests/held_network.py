"""A network for `python:` members that can be made to wait, so that a run is interrupted at a known place."""

import time
from pathlib import Path

from torch import Tensor, nn

CLASSES = 7


class HeldNetwork(nn.Module):
    """A linear classifier of colours that stops before its third batch while `folder/hold` exists.

    It says so by creating `folder/waiting`.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._batches = 0
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Linear(3 * 4 * 4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, H, W] -> logits [B, 7]."""
        self._batches += len(x) > 1  # a single crop is the check before a run
        while self._batches == 3 and (self._folder / "hold").exists():
            (self._folder / "waiting").touch()
            time.sleep(0.01)
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits
