"""Table 1 of the paper as data: GoogLeNet's trunk, one row per stage, in order (no torch here).

Channel counts are those of width 1.0. `scaled` multiplies them; the number of classes is never scaled.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Convolution:
    """A square convolution with `channels` outputs, padded to keep the size before striding."""

    name: str
    kernel: int
    stride: int
    channels: int


@dataclass(frozen=True)
class MaxPool:
    """A max pool; its output size is rounded up (`ceil_mode`), as the output column of Table 1 needs."""

    name: str
    kernel: int
    stride: int


@dataclass(frozen=True)
class Inception:
    """Columns #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5 and pool proj of one Inception row."""

    name: str
    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_projection: int

    def scaled(self, width: float) -> tuple[int, ...]:
        """The six channel counts at `width`."""
        return tuple(scaled(count, width) for count in astuple(self)[1:])


Stage = Convolution | MaxPool | Inception

STAGES: tuple[Stage, ...] = (
    Convolution("conv1", kernel=7, stride=2, channels=64),
    MaxPool("maxpool1", kernel=3, stride=2),
    # Table 1 prints these two as one row, "3×3 reduce 64, 3×3 192".
    Convolution("conv2", kernel=1, stride=1, channels=64),
    Convolution("conv3", kernel=3, stride=1, channels=192),
    MaxPool("maxpool2", kernel=3, stride=2),
    Inception("inception3a", 64, 96, 128, 16, 32, 32),
    Inception("inception3b", 128, 128, 192, 32, 96, 64),
    MaxPool("maxpool3", kernel=3, stride=2),
    Inception("inception4a", 192, 96, 208, 16, 48, 64),
    Inception("inception4b", 160, 112, 224, 24, 64, 64),
    Inception("inception4c", 128, 128, 256, 24, 64, 64),
    Inception("inception4d", 112, 144, 288, 32, 64, 64),
    Inception("inception4e", 256, 160, 320, 32, 128, 128),
    MaxPool("maxpool4", kernel=3, stride=2),
    Inception("inception5a", 256, 160, 320, 32, 128, 128),
    Inception("inception5b", 384, 192, 384, 48, 128, 128),
)

INPUT_CHANNELS = 3
INPUT_SIZE = 224
DROPOUT = 0.4

# Figure 3: the auxiliary classifiers read the outputs of 4a and 4d.
AUXILIARY_HEADS = {"inception4a": "aux1", "inception4d": "aux2"}
AUXILIARY_CONVOLUTION_CHANNELS = 128
AUXILIARY_HIDDEN_UNITS = 1024
AUXILIARY_POOLED_SIZE = 4
AUXILIARY_DROPOUT = 0.7


def scaled(channels: int, width: float) -> int:
    """The channel count at `width`, at least one."""
    return max(1, round(channels * width))


def without_auxiliary_heads(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """The entries of a state dict that inference needs: the auxiliary heads serve training only.

    Example:
        >>> without_auxiliary_heads({"fc.weight": 1, "aux1.fc1.weight": 2})
        {'fc.weight': 1}
    """
    prefixes = tuple(f"{head}." for head in AUXILIARY_HEADS.values())
    return {name: value for name, value in state_dict.items() if not name.startswith(prefixes)}
