"""From a file's bytes to crops: decode, resize, cut.

Decoding is Pillow's and resizing torchvision's antialiased uint8 kernel on the CPU, whatever device runs
the network, so that the pixels are the same everywhere.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble_eval.crops import CROP_SIZE, CropPlan, View, resized_size
from ensemble_eval.errors import UnreadableImageError

# Pillow's own threshold for a decompression bomb (a quarter GiB of RGB); ILSVRC's largest image has 18 million.
MAX_PIXELS = 89_478_485
# A sliver of 1 × 100,000 is small itself, but its shorter side scaled to 352 would need 12 billion pixels.
MAX_ASPECT_RATIO = 100


_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class CropSource:
    """One image, ready to be cut.

    Attributes:
        plan: the distinct views of this image and their weights.
        resized: uint8 [3, height, width] for each scale of the plan.
        wholes: uint8 [3, 224, 224], the squares resized, keyed by their unmirrored view.
    """

    plan: CropPlan
    resized: Mapping[int, Tensor]
    wholes: Mapping[View, Tensor]

    def to(self, device: torch.device) -> "CropSource":
        """The same source with its pixels on `device`."""
        return CropSource(
            self.plan,
            {scale: image.to(device, non_blocking=True) for scale, image in self.resized.items()},
            {view: image.to(device, non_blocking=True) for view, image in self.wholes.items()},
        )

    def cut(self, view: View) -> Tensor:
        """The crop uint8 [3, 224, 224] of one view, mirrored if the view is."""
        if view.is_whole:
            crop = self.wholes[view.unmirrored()]
        else:
            bottom, right = view.top + CROP_SIZE, view.left + CROP_SIZE
            crop = self.resized[view.scale][:, view.top : bottom, view.left : right]
        return crop.flip(-1) if view.mirrored else crop


def decode(data: bytes) -> Tensor:
    """Decode an image file to uint8 [3, height, width], RGB.

    Grey, CMYK, palette and transparent images become RGB; EXIF orientation is not applied, as in every
    published evaluation. A file with several frames gives its first.

    Raises:
        UnreadableImageError: not an image, truncated, or unreasonably large.
    """
    try:
        # Only these of Pillow's formats: some others start programs (EPS) or are told apart badly (TGA).
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_enormous(image.width, image.height)
            array = np.array(_to_rgb(image))
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"decompression bomb: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError) as error:
        # What Pillow's decoders raise for damaged files is not documented further than this.
        raise UnreadableImageError(f"damaged: {error}") from error
    return torch.from_numpy(array).permute(2, 0, 1)


def resize(image: Tensor, height: int, width: int, *, bicubic: bool = False) -> Tensor:
    """Resize uint8 [3, H, W] to uint8 [3, height, width], antialiased."""
    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    resized: Tensor = transforms.resize(image, [height, width], interpolation=mode, antialias=True)
    return resized


def prepare(image: Tensor, plan: CropPlan, *, bicubic: bool = False) -> CropSource:
    """Resize a decoded image once per scale of its plan, and each whole square to 224×224.

    Args:
        image: uint8 [3, H, W].
        plan: made for this height and width.
        bicubic: resample bicubically instead of bilinearly.
    """
    _, height, width = image.shape
    resized = {}
    for scale in plan.scales:
        new_width, new_height = resized_size(width, height, scale)
        resized[scale] = resize(image, new_height, new_width, bicubic=bicubic)
    wholes = {}
    for view in plan.views:
        if view.is_whole and not view.mirrored:
            square = resized[view.scale][:, view.top :, view.left :][:, : view.side, : view.side]
            wholes[view] = resize(square, CROP_SIZE, CROP_SIZE, bicubic=bicubic)
    return CropSource(plan, resized, wholes)


def _refuse_enormous(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            f"decompression bomb: {width}×{height} pixels, more than the {MAX_PIXELS} that are decoded"
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise UnreadableImageError(
            f"{width}×{height} pixels: sides further apart than 1:{MAX_ASPECT_RATIO} cannot be resized"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadableImageError(f"pixels of mode {image.mode} have no defined range; convert it to 8 bits")
    return image.convert("RGB")
