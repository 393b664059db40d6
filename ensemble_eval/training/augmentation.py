"""From an image to a training patch (section 6): patch, interpolation, mirror, colours.

Torchvision's transforms draw from torch's global generator; `Augmentation` seeds it for each patch.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from ensemble_eval.training.config import Sampling
from ensemble_eval.training.seeds import seeded

Interpolation = Literal["bilinear", "area", "nearest", "bicubic"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

# ImageNet's principal colour axes, as columns scaled by the square roots of their variances, for pixels in
# 0 … 1 (Krizhevsky et al. 2012, section 4.1; the numbers are those of fb.resnet.torch).
_COLOUR_AXES = torch.tensor(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * torch.tensor([0.2175, 0.0188, 0.0045])


class Augmentation:
    """Takes random patches: uint8 [3, H, W] -> uint8 [3, size, size]."""

    def __init__(self, sampling: Sampling, size: int) -> None:
        self._sampling = sampling
        self.size = size
        self._boxes = v2.RandomResizedCrop(size, scale=sampling.patch_area, ratio=sampling.patch_aspect)
        self._mirror = v2.RandomHorizontalFlip()
        self._colours = v2.ColorJitter(sampling.brightness, sampling.contrast, sampling.saturation)
        self._distorts = max(sampling.brightness, sampling.contrast, sampling.saturation, sampling.lighting) > 0

    def __call__(self, image: Tensor, epoch: int, seed: int) -> Tensor:
        """The patch of a seed; the epoch decides whether the interpolation is random."""
        with seeded(seed):
            box = self.draw_box(image)
            interpolation = self.draw_interpolation(epoch)
            patch = resize(functional.crop(image, **box), self.size, interpolation)
            mirrored: Tensor = self._mirror(patch)
            return self.distort(mirrored)

    def draw_box(self, image: Tensor) -> dict[str, int]:
        """A random patch of an image as top, left, height and width in pixels.

        If ten draws of area and aspect do not fit into the image, it is the largest centred box within the limits
        of the aspect, as in Inception's own code.
        """
        box: dict[str, int] = self._boxes.make_params([image])
        return box

    def draw_interpolation(self, epoch: int) -> Interpolation:
        """Draw how a patch is resized in an epoch."""
        drawn = int(torch.randint(len(INTERPOLATIONS), ()))
        random = epoch >= self._sampling.random_interpolation_from_epoch
        return INTERPOLATIONS[drawn] if random else "bilinear"

    def distort(self, patch: Tensor) -> Tensor:
        """The patch in other colours, drawn from torch's global generator: uint8 [3, size, size]."""
        if not self._distorts:
            return patch
        # In floating point, because on uint8 each of the three steps would round and clip, and take longer.
        pixels: Tensor = self._colours(patch.float() / 255)
        noise = _COLOUR_AXES @ (torch.randn(3) * self._sampling.lighting)
        return ((pixels + noise.view(3, 1, 1)).clamp_(0, 1) * 255).round_().to(torch.uint8)


def resize(patch: Tensor, size: int, interpolation: Interpolation) -> Tensor:
    """Resize uint8 [3, h, w] to uint8 [3, size, size]."""
    if interpolation == "area":
        # Torchvision has no area resampling for tensors; its antialiased bilinear weighs by a triangle. Torch's
        # "area" is the plain mean over the source pixels of each target pixel, as in OpenCV and TensorFlow.
        mean = nn.functional.interpolate(patch[None].float(), (size, size), mode="area")
        return mean[0].round_().to(torch.uint8)
    mode = InterpolationMode("nearest-exact" if interpolation == "nearest" else interpolation)
    resized: Tensor = functional.resize(patch, [size, size], interpolation=mode, antialias=True)
    return resized
