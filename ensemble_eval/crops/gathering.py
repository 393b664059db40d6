"""Stores the pixels of many images in one buffer, and cuts all crops of a batch from it at once.

A batch takes a few tensor operations, however many crops it has, because each operation costs a kernel launch on a
GPU. The pixels are those of `CropSource.cut`, bit for bit.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ensemble_eval.crops.protocols import MAX_SIDE

# Every image begins at a multiple of this many bytes.
_ALIGNMENT = 256
# The initial size in bytes, enough for a few batches of one-crop images. The buffer doubles when it is full.
_FIRST_BYTES = 1 << 26


class Address(NamedTuple):
    """Where the pixels of one crop are in a buffer.

    Attributes:
        offset: The position of the upper left pixel, in bytes.
        stride: The distance from one row of pixels to the next, in bytes.
        mirrored: 1 if the crop is flipped left to right, else 0.
    """

    offset: int
    stride: int
    mirrored: int


# A black crop, which pads a batch. With stride 0, each of its rows is the zero bytes at the start of the buffer.
BLACK = Address(0, 0, 0)
# A buffer begins with as many zeros: a row of the largest crop.
_BLACK_BYTES = 3 * MAX_SIDE


class Gatherer:
    """Makes batches of crops on one device.

    Args:
        device: The device of the buffer, the addresses and the batches.

    Example:
        >>> buffer = torch.arange(3 * 300 * 300, dtype=torch.int64).to(torch.uint8)
        >>> crops = torch.empty(1, 224, 224, 3, dtype=torch.uint8)
        >>> Gatherer(torch.device("cpu"))(buffer, torch.tensor([[7, 900, 0]]), crops)
        >>> crops[0, 1, 0].tolist() == [(7 + 900 + channel) % 256 for channel in range(3)]
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._rows = torch.arange(MAX_SIDE, device=device)

    def __call__(self, buffer: Tensor, addresses: Tensor, crops: Tensor) -> None:
        """Fill a batch.

        Args:
            buffer: uint8 [bytes], at least one row of a crop long.
            addresses: int64 [B, 3], an `Address` in each row, none of which reaches beyond the buffer.
            crops: The output, uint8 [B, size, size, 3], contiguous.
        """
        offsets, strides, mirrored = addresses.unsqueeze(2).unbind(1)
        size = crops.shape[1]
        row_offsets = (offsets + strides * self._rows[:size]).flatten()
        # A view with one window per byte, each as long as a row of a crop. The windows overlap and need no memory.
        windows = buffer.unfold(0, 3 * size, 1)
        torch.index_select(windows, 0, row_offsets, out=crops.view(-1, 3 * size))
        torch.where(mirrored[..., None, None] == 1, crops.flip(2), crops, out=crops)


class PixelBuffer:
    """One tensor of bytes on a device, which begins with a row of black pixels and grows when it is full.

    Space is allocated first-fit: the first gap that is long enough. On CUDA, the bytes must be read and written
    only on the stream for loading.

    Args:
        device: The device of the tensor.
        first_bytes: The initial size.

    Attributes:
        bytes: uint8 [size], empty at first. `grow` replaces this tensor, so read the attribute for each batch.
    """

    def __init__(self, device: torch.device, first_bytes: int = _FIRST_BYTES) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8, device=device)
        self._size, start = _aligned(max(first_bytes, _BLACK_BYTES)), _aligned(_BLACK_BYTES)
        # Start and length of each gap, ascending. Adjacent gaps are always merged.
        self._gaps = [(start, self._size - start)]
        self._taken: dict[int, int] = {}

    def allocate(self, length: int) -> int:
        """Reserve `length` bytes and return their start. Call `grow` before you write them."""
        needed = _aligned(max(1, length))
        while (found := next((gap for gap in self._gaps if gap[1] >= needed), None)) is None:
            self._add_gap(self._size, self._size)
            self._size *= 2
        start, gap = found
        self._gaps[self._gaps.index(found)] = (start + needed, gap - needed)
        self._taken[start] = needed
        return start

    def free(self, start: int) -> None:
        """Free the bytes that were allocated at `start`."""
        self._add_gap(start, self._taken.pop(start))

    def grow(self) -> None:
        """Enlarge the tensor to hold everything that is allocated. The content keeps its positions."""
        if len(self.bytes) < self._size:
            grown = torch.zeros(self._size, dtype=torch.uint8, device=self.bytes.device)
            grown[: len(self.bytes)].copy_(self.bytes)
            self.bytes = grown

    def _add_gap(self, start: int, length: int) -> None:
        joined: list[tuple[int, int]] = []
        for gap in sorted([*self._gaps, (start, length)]):
            if joined and sum(joined[-1]) == gap[0]:
                joined[-1] = (joined[-1][0], joined[-1][1] + gap[1])
            else:
                joined.append(gap)
        self._gaps = joined


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT
