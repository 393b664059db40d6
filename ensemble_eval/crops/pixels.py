"""From a file's bytes to crops: decode, resize, cut.

Decoding is Pillow's and resizing torch's antialiased uint8 kernel on the CPU, whatever device runs the
network, so that the pixels are the same everywhere. They are those of torchvision's `resize`, which calls the
same kernel; torchvision itself takes two seconds to import, most of them for torch's compiler.
"""

import io
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from ensemble_eval.crops.gathering import Address
from ensemble_eval.crops.schemes import CROP_SIZE, CropPlan, View, resized_size
from ensemble_eval.errors import UnreadableImageError, first_line

# Pillow's own threshold for a decompression bomb (a quarter GiB of RGB); ILSVRC's largest image has 18 million.
MAX_PIXELS = 89_478_485
# A sliver of 1 × 100,000 is small itself, but its shorter side scaled to 352 would need 12 billion pixels.
MAX_ASPECT_RATIO = 100


_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Region(NamedTuple):
    """Where an image of `width` pixels in each row begins among others in one run of bytes."""

    offset: int
    width: int


@dataclass(frozen=True)
class CropSource:
    """One image, ready to be cut.

    Attributes:
        plan: the distinct views of this image and their weights.
        pixels: uint8 [bytes], all its sizes one after the other, so that one copy brings it to a device.
        regions: the places in `pixels` of the image at each scale of the plan, keyed by the scale, and of the
            whole squares resized to 224×224, keyed by their unmirrored view.
    """

    plan: CropPlan
    pixels: Tensor
    regions: Mapping[int | View, Region]

    def pinned(self) -> "CropSource":
        """The same source in memory that a GPU copies from while it computes."""
        return replace(self, pixels=self.pixels.pin_memory())

    def cut(self, view: View) -> Tensor:
        """The crop uint8 [3, 224, 224] of one view, mirrored if the view is."""
        offset, stride, mirrored = self.address(view)
        # Channels last, as in batches: cutting copies whole rows.
        crop = self.pixels[offset:].as_strided((3, CROP_SIZE, CROP_SIZE), (1, stride, 3))
        return crop.flip(-1) if mirrored else crop

    def address(self, view: View) -> Address:
        """Where the crop of one view begins in `pixels`."""
        offset, width = self.regions[replace(view, mirrored=False) if view.is_whole else view.scale]
        if not view.is_whole:
            offset += 3 * (view.top * width + view.left)
        return Address(offset, 3 * width, int(view.mirrored))

    def moved_to(self, start: int) -> "CropSource":
        """The same source for pixels that begin at byte `start` of a buffer; it has none of its own."""
        regions = {key: region._replace(offset=region.offset + start) for key, region in self.regions.items()}
        return replace(self, pixels=torch.empty(0, dtype=torch.uint8), regions=regions)


def decode(data: bytes) -> Tensor:
    """Decode an image file to uint8 [3, height, width], RGB.

    Grey, CMYK, palette and transparent images become RGB; EXIF orientation is not applied, as in every
    published evaluation. A file with several frames gives its first.

    Raises:
        UnreadableImageError: not an image, truncated, or unreasonably large.
    """
    try:
        # Only these of Pillow's formats: some others start programs (EPS) or are not recognised reliably (TGA).
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_enormous(image.width, image.height)
            array = np.array(_to_rgb(image))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"decompression bomb: {error}") from error
    except Exception as error:
        # What Pillow's decoders raise for damaged files is not documented: TypeError and OverflowError too.
        raise UnreadableImageError(f"damaged: {first_line(error)}") from error
    return torch.from_numpy(array).permute(2, 0, 1)


def resize(image: Tensor, height: int, width: int, *, bicubic: bool = False) -> Tensor:
    """Resize uint8 [3, H, W] to uint8 [3, height, width], antialiased: torchvision's pixels, bit for bit."""
    if image.shape[1:] == (height, width):
        return image
    batch = _restrided(image[None])
    native = bicubic or _has_uint8_bilinear()
    mode = "bicubic" if bicubic else "bilinear"
    resized = functional.interpolate(
        batch if native else batch.float(), (height, width), mode=mode, align_corners=False, antialias=True
    )
    return (resized if native else resized.round_().to(torch.uint8))[0]


def _restrided(batch: Tensor) -> Tensor:
    """A batch [1, 3, H, W] with the first stride that it would have among others.

    torch does not see by the stride of a single image that its channels are last, and would copy the outcome
    (pytorch/pytorch#68430).
    """
    if batch.is_contiguous(memory_format=torch.channels_last):
        return batch.as_strided(batch.shape, (batch.numel(), *batch.stride()[1:]))
    return batch


def _has_uint8_bilinear() -> bool:
    """Whether torchvision resizes bilinearly in uint8 here; on other processors it takes float32 and rounds."""
    is_arm = platform.machine() in ("aarch64", "arm64")
    return is_arm or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def prepare(image: Tensor, plan: CropPlan, *, bicubic: bool = False) -> CropSource:
    """Resize a decoded image once per scale of its plan, and each whole square to 224×224.

    Args:
        image: uint8 [3, H, W].
        plan: made for this height and width.
        bicubic: resample bicubically instead of bilinearly.

    Raises:
        UnreadableImageError: the image cannot be resized, as where there is no memory for it.
    """
    try:
        images = _resized(image, plan, bicubic=bicubic)
        regions, offset = {}, 0
        for key, resized in images.items():
            regions[key] = Region(offset, resized.shape[2])
            offset += resized.numel()
        packed = torch.cat([resized.permute(1, 2, 0).reshape(-1) for resized in images.values()])
    except Exception as error:
        raise UnreadableImageError(f"cannot be resized: {first_line(error)}") from error
    return CropSource(plan, packed, regions)


def _resized(image: Tensor, plan: CropPlan, *, bicubic: bool) -> dict[int | View, Tensor]:
    _, height, width = image.shape
    images: dict[int | View, Tensor] = {}
    for scale in sorted({view.scale for view in plan.views}):
        new_width, new_height = resized_size(width, height, scale)
        images[scale] = resize(image, new_height, new_width, bicubic=bicubic)
    for view in plan.views:
        if view.is_whole and not view.mirrored:
            square = images[view.scale][:, view.top :, view.left :][:, : view.side, : view.side]
            images[view] = resize(square, CROP_SIZE, CROP_SIZE, bicubic=bicubic)
    return images


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
