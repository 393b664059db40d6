"""What the makers of interop files share: fixed pixels, and where files go. It needs numpy alone.

INTEROP_WIDTH and INTEROP_FILES make files of another width elsewhere, such as full ones that are compared once.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

FILES = Path(os.environ.get("INTEROP_FILES") or Path(__file__).parent / "files")
CLASSES = 7
# Channels are those of the paper times this, at least one.
WIDTH = float(os.environ.get("INTEROP_WIDTH") or 0.06)
STAGES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def narrow(channels: int, width: float = WIDTH) -> int:
    return max(1, round(channels * width))


def pixels() -> Any:
    """uint8 [2, 3, 224, 224], RGB: blocks of 8 × 8 equal pixels, so that a file of them is small.

    One picture is dark and red, the other bright and blue, so that no network gives the same for both.
    """
    rng = np.random.default_rng(2015)
    shades = rng.integers(0, 120, (2, 3, 4, 4)).repeat(7, axis=2).repeat(7, axis=3)
    tints = np.array([[70, 0, 0], [40, 60, 120]])[:, :, None, None]
    blocks = (shades + tints + rng.integers(0, 15, (2, 3, 28, 28))).astype(np.uint8)
    return blocks.repeat(8, axis=2).repeat(8, axis=3)


def store(name: str, probabilities: Any) -> None:
    """What a framework made of `pixels()`, beside its file of weights."""
    blocks = pixels()[:, :, ::8, ::8]
    np.savez(FILES / f"{name}.npz", blocks=blocks, probabilities=np.asarray(probabilities, np.float32))
