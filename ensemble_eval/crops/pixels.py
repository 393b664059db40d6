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
from ensemble_eval.crops.plan import CropPlan
from ensemble_eval.crops.views import Canvas, Kernel, Resampling, View
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
        regions: the places in `pixels` of each canvas of the plan, and of each box that is resized, keyed by its
            unmirrored view.
    """

    plan: CropPlan
    pixels: Tensor
    regions: Mapping[Canvas | View, Region]

    def pinned(self) -> "CropSource":
        """The same source in memory that a GPU copies from while it computes."""
        return replace(self, pixels=self.pixels.pin_memory())

    def cut(self, view: View) -> Tensor:
        """The crop uint8 [3, size, size] of one view, mirrored if the view is."""
        offset, stride, mirrored = self.address(view)
        # Channels last, as in batches: cutting copies whole rows.
        crop = self.pixels[offset:].as_strided((3, view.size, view.size), (1, stride, 3))
        return crop.flip(-1) if mirrored else crop

    def address(self, view: View) -> Address:
        """Where the crop of one view begins in `pixels`."""
        offset, width = self.regions[replace(view, mirrored=False) if view.is_resized else view.canvas]
        if not view.is_resized:
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


def picture_of(image: Tensor) -> Image.Image:
    """An image uint8 [3, height, width] as a picture of Pillow."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def resize(
    image: Tensor, height: int, width: int, resampling: Resampling = "bilinear", kernel: Kernel = "torch"
) -> Tensor:
    """Resize uint8 [3, H, W] to uint8 [3, height, width].

    Args:
        image: uint8 [3, H, W].
        height, width: of the result.
        resampling: the filter; torch has `bilinear` and `bicubic`.
        kernel: `torch` is antialiased: torchvision's pixels for tensors, bit for bit. `pillow` gives those of
            torchvision and timm for images of Pillow.
    """
    if image.shape[1:] == (height, width):
        return image
    if kernel == "pillow":
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        resized = picture.resize((width, height), Image.Resampling[resampling.upper()])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    batch = _restrided(image[None])
    native = resampling == "bicubic" or _has_uint8_bilinear()
    interpolated = functional.interpolate(
        batch if native else batch.float(), (height, width), mode=resampling, align_corners=False, antialias=True
    )
    return (interpolated if native else interpolated.round_().to(torch.uint8))[0]


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


def prepare(image: Tensor, plan: CropPlan) -> CropSource:
    """Resize a decoded image once for each canvas of its plan, and each box that is not as large as its crop.

    Args:
        image: uint8 [3, H, W].
        plan: made for this height and width.

    Raises:
        UnreadableImageError: the image cannot be resized, as where there is no memory for it.
    """
    try:
        images = _resized(image, plan)
        regions, offset = {}, 0
        for key, resized in images.items():
            regions[key] = Region(offset, resized.shape[2])
            offset += resized.numel()
        packed = torch.cat([resized.permute(1, 2, 0).reshape(-1) for resized in images.values()])
    except Exception as error:
        raise UnreadableImageError(f"cannot be resized: {first_line(error)}") from error
    return CropSource(plan, packed, regions)


def _resized(image: Tensor, plan: CropPlan) -> dict[Canvas | View, Tensor]:
    images: dict[Canvas | View, Tensor] = {canvas: _on_canvas(image, canvas) for canvas in plan.canvases}
    for view in plan.views:
        if view.is_resized and not view.mirrored:
            canvas, side = view.canvas, view.side
            box = images[canvas][:, view.top : view.top + side, view.left : view.left + side]
            images[view] = resize(box, view.size, view.size, canvas.resampling, canvas.kernel)
    return images


def _on_canvas(image: Tensor, canvas: Canvas) -> Tensor:
    _, height, width = image.shape
    new_width, new_height = canvas.resized(width, height)
    resized = resize(image, new_height, new_width, canvas.resampling, canvas.kernel)
    full_width, full_height = canvas.padded(width, height)
    if (full_width, full_height) == (new_width, new_height):
        return resized
    padded = torch.tensor(canvas.fill, dtype=torch.uint8)[:, None, None].repeat(1, full_height, full_width)
    left, top = (full_width - new_width) // 2, (full_height - new_height) // 2
    padded[:, top : top + new_height, left : left + new_width] = resized
    return padded


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
