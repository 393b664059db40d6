"""Where the pixels of crops lie: how an image is resized, and the boxes in it. Integers only, no pixels."""

from dataclasses import dataclass
from typing import Literal

Fit = Literal["shorter", "longer", "squeeze"]
Resampling = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Kernel = Literal["torch", "pillow"]


@dataclass(frozen=True)
class Canvas:
    """A way to resize a whole image, from which crops are cut.

    Attributes:
        scale: The length in pixels to which a side is resized.
        fit: Which side: `shorter` and `longer` keep the aspect ratio, `squeeze` makes a square.
        resampling: The filter.
        kernel: `torch` is antialiased and in uint8, and `pillow` Pillow's own.
        least: The canvas is padded to at least this width and height.
        fill: The RGB values of the padding.
    """

    scale: int
    fit: Fit
    resampling: Resampling
    kernel: Kernel
    least: int
    fill: tuple[int, int, int]

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of an image of `width` × `height` pixels after resizing, without padding."""
        if self.fit == "squeeze":
            return self.scale, self.scale
        if self.fit == "longer":
            # Both sides are rounded, in timm's floating-point arithmetic (`ResizeKeepRatio`).
            ratio = max(width / self.scale, height / self.scale)
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        return resized_size(width, height, self.scale)

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of the canvas of an image, with padding."""
        new_width, new_height = self.resized(width, height)
        return max(new_width, self.least), max(new_height, self.least)


@dataclass(frozen=True)
class View:
    """The pixels of a crop in one image: a square box on a canvas.

    Attributes:
        canvas: How the image is resized.
        left, top: Where the box begins on the canvas, in pixels.
        side: The length of the box. A box of another length than `size` is resized.
        size: The width and height of the crop.
        mirrored: Whether the crop is flipped left to right.
    """

    canvas: Canvas
    left: int
    top: int
    side: int
    size: int
    mirrored: bool

    @property
    def is_resized(self) -> bool:
        """Whether the box is not as large as the crop."""
        return self.side != self.size


def resized_size(width: int, height: int, scale: int) -> tuple[int, int]:
    """Return the width and height after the shorter side becomes `scale`; the longer side is rounded down."""
    shorter, longer = sorted((width, height))
    other = scale * longer // shorter
    return (scale, other) if width <= height else (other, scale)


def centred_offset(outer: int, inner: int) -> int:
    """Return where `inner` pixels start when centred in `outer`: halves are rounded to even (Python's round)."""
    return round((outer - inner) / 2)
