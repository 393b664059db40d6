"""The crops of a whole batch out of one run of bytes: a fixed number of tensor operations, however many crops.

For GPUs, where each operation costs a launch. The pixels are those of `CropSource.cut`, bit for bit.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ensemble_eval.crops.schemes import CROP_SIZE

# Bytes of one row of a crop. A buffer begins with as many zeros, of which black crops are made.
ROW_BYTES = 3 * CROP_SIZE


class Address(NamedTuple):
    """Where the crop of one view lies among the bytes of a buffer.

    Attributes:
        offset: of the upper left pixel, in bytes.
        stride: from one row of pixels to the next, in bytes.
        mirrored: 1 if the crop is to be flipped left to right, else 0.
    """

    offset: int
    stride: int
    mirrored: int


# The first bytes of a buffer over and over: a crop that pads a batch.
BLACK = Address(0, 0, 0)


class Gatherer:
    """Makes batches of crops on one device.

    Args:
        device: of the buffer, the addresses and the batches.

    Example:
        >>> buffer = torch.arange(3 * 300 * 300, dtype=torch.int64).to(torch.uint8)
        >>> crops = torch.empty(1, CROP_SIZE, CROP_SIZE, 3, dtype=torch.uint8)
        >>> Gatherer(torch.device("cpu"))(buffer, torch.tensor([[7, 900, 0]]), crops)
        >>> crops[0, 1, 0].tolist() == [(7 + 900 + channel) % 256 for channel in range(3)]
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._rows = torch.arange(CROP_SIZE, device=device)

    def __call__(self, buffer: Tensor, addresses: Tensor, crops: Tensor) -> None:
        """Fill a batch.

        Args:
            buffer: uint8 [bytes], at least one row of a crop long.
            addresses: int64 [B, 3], an `Address` in each row, none of which reaches beyond the buffer.
            crops: uint8 [B, 224, 224, 3], contiguous; what is gathered goes there.
        """
        offsets, strides, mirrored = addresses.unsqueeze(2).unbind(1)
        row_offsets = (offsets + strides * self._rows).flatten()
        # A window begins at every byte; the windows overlap and take no memory of their own.
        windows = buffer.unfold(0, ROW_BYTES, 1)
        torch.index_select(windows, 0, row_offsets, out=crops.view(-1, ROW_BYTES))
        torch.where(mirrored[..., None, None] == 1, crops.flip(2), crops, out=crops)
