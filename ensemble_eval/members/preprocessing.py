"""From the pixels of crops to a member's input, as its manifest states it."""

import weakref

import torch
from torch import Tensor, nn

from ensemble_eval.members.imported import InputFormat

# torchvision re-maps input that is normalised so to the range ±1 (pytorch/vision#4136).
_IMAGENET = InputFormat.imagenet()


class Preprocessing(nn.Module):
    """uint8 RGB [B, 3, H, W] -> float32 [B, 3, H, W] as an `InputFormat` states it."""

    mean: Tensor
    std: Tensor
    remap_scale: Tensor
    remap_offset: Tensor

    def __init__(self, input_format: InputFormat) -> None:
        super().__init__()
        self._format = input_format
        self.register_buffer("mean", _per_channel(input_format.mean))
        self.register_buffer("std", _per_channel(input_format.std))
        # The re-mapping is stated for red, green and blue, in this order.
        order = [2, 1, 0] if input_format.channels == "bgr" else [0, 1, 2]
        self.register_buffer("remap_scale", _per_channel(_IMAGENET.std)[:, order] / 0.5)
        self.register_buffer("remap_offset", (_per_channel(_IMAGENET.mean)[:, order] - 0.5) / 0.5)

    def forward(self, crop_batch: Tensor) -> Tensor:
        """See the class."""
        if self._format.channels == "bgr":
            crop_batch = crop_batch.flip(1)
        normalised = (crop_batch.float() / self._format.scale - self.mean) / self.std
        if self._format.transform_input:
            normalised = normalised * self.remap_scale + self.remap_offset
        return normalised


class SharedPreprocessing:
    """`Preprocessing` that is done once for a batch, however many members ask for it.

    It holds the outcome only as long as someone holds the batch: one that did not fit into memory must not take up
    the memory of the smaller one that follows.

    Args:
        input_format: what the members have in common.
        device: where the batches are.
        dtype: of the outcome; computed in float32 in any case.
    """

    def __init__(
        self, input_format: InputFormat, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._dtype = dtype
        self._preprocess = Preprocessing(input_format).to(device)
        self._crop_batch: weakref.ref[Tensor] | None = None
        self._normalised: Tensor | None = None

    def __call__(self, crop_batch: Tensor) -> Tensor:
        """[B, 3, H, W] of the dtype, channels last; the same tensor for the same batch, so leave it as it is."""
        if self._crop_batch is not None and self._crop_batch() is crop_batch and self._normalised is not None:
            return self._normalised
        self._crop_batch = self._normalised = None
        normalised = self._preprocess(crop_batch).to(self._dtype)
        self._normalised = normalised.contiguous(memory_format=torch.channels_last)
        self._crop_batch = weakref.ref(crop_batch, self._forget)
        return self._normalised

    def _forget(self, _crop_batch: weakref.ref[Tensor]) -> None:
        self._normalised = None


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
