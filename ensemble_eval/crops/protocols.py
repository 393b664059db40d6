"""Multi-crop protocols as data: which crops are cut from an image, in which order. Integers only, no pixels.

A protocol resizes an image to one or more scales, and cuts crops at the same positions in one or more squares of
each. Its schemes are prefixes of this order with a row in the table: the first of 144 crops are the 1-crop and the
10-crop scheme.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from ensemble_eval import toml_tables
from ensemble_eval.crops.views import Canvas, Fit, Kernel, Resampling, View, centred_offset
from ensemble_eval.errors import InputError
from ensemble_eval.fields import CheckedFields, bounds
from ensemble_eval.locations import location

Square = Literal["centre", "centre-floor", "first", "last", "image"]
Position = Literal["centre", "centre-floor", "top-left", "top-right", "bottom-left", "bottom-right", "whole"]
Mirror = Literal["none", "crop", "image"]
Axis = Literal["scale", "square", "position", "mirror"]

AXES: tuple[Axis, ...] = get_args(Axis)
# Where a position's box lies in its square, horizontally and vertically.
_IN_SQUARE: Mapping[str, tuple[Square, Square]] = {
    "centre": ("centre", "centre"),
    "centre-floor": ("centre-floor", "centre-floor"),
    "top-left": ("first", "first"),
    "top-right": ("last", "first"),
    "bottom-left": ("first", "last"),
    "bottom-right": ("last", "last"),
}
_KERNELS_OF_TORCH = ("bilinear", "bicubic")
_MAX_CROPS = 10_000
# The longest side of crops and of scales.
MAX_SIDE = 4096


@dataclass(frozen=True)
class Crop:
    """A crop of a protocol, independent of any image.

    Attributes:
        scale: The length in pixels to which a side of the image is resized.
        square: The square along the longer side; `first` is left or top, `last` right or bottom. `image` is the
            whole resized image. Halves of a pixel are rounded to even by `centre`, and down by `centre-floor`.
        position: Where in the square. `whole` is the square itself, resized to the size of a crop; `2,0` is the
            third row and the first column of a grid.
        mirrored: Whether it is flipped left to right.
    """

    scale: int
    square: Square
    position: str
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Protocol(CheckedFields):
    """A rule that says which crops are cut from an image, and in which order.

    Attributes:
        name: The name.
        size: The width and height of the crops, in pixels: the input size of the network.
        scales: The lengths to which a side of the image is resized, in the order of the crops.
        fit: Which side is resized to a scale; see `Canvas`.
        squares: The squares of each resized image; see `Crop`.
        positions: The positions in each square.
        grid: Add this many rows and columns of positions, in equal steps from edge to edge of the square.
        mirror: Whether each crop is also taken flipped left to right. `crop` flips the crop. `image` flips the
            resized image and cuts it again, so that the mirror of the left corner shows the right one.
        order: The order of the crops: the last of these changes first.
        resampling: The filter with which images are resized; None for that of the ensemble.
        kernel: What resizes; see `Canvas`.
        fill: Pad resized images that are smaller than a crop with this colour; None to refuse them.
        schemes: How many of the first crops make up a row of the table, ascending; the last is all of them.

    Raises:
        InputError: A value is invalid, or values contradict each other.

    Example:
        >>> Protocol(name="mine", size=299, scales=(320,), mirror="crop", schemes=(1, 2)).crops[1]
        Crop(scale=320, square='centre', position='centre', mirrored=True)
    """

    name: str = field(compare=False)
    size: int = field(metadata=bounds(1, MAX_SIDE))
    scales: tuple[int, ...] = field(metadata=bounds(1, MAX_SIDE))
    fit: Fit = "shorter"
    squares: tuple[Square, ...] = ("centre",)
    positions: tuple[Position, ...] = ("centre",)
    grid: int = field(default=0, metadata=bounds(0, 100))
    mirror: Mirror = "none"
    order: tuple[Axis, ...] = AXES
    resampling: Resampling | None = None
    kernel: Kernel = "torch"
    fill: tuple[int, int, int] | None = field(default=None, metadata=bounds(0, 255))
    schemes: tuple[int, ...] = field(metadata=bounds(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem in self._problems():
            raise InputError(f"the protocol {self.name}: {problem}")

    @cached_property
    def crops(self) -> tuple[Crop, ...]:
        """The crops in their order."""
        values: Mapping[Axis, Sequence[Any]] = {
            "scale": self.scales,
            "square": self.squares,
            "position": self.all_positions,
            "mirror": (False,) if self.mirror == "none" else (False, True),
        }
        places = [self.order.index(axis) for axis in AXES]
        every = itertools.product(*(values[axis] for axis in self.order))
        return tuple(Crop(*(one[place] for place in places)) for one in every)

    @cached_property
    def all_positions(self) -> tuple[str, ...]:
        """The names of the positions, those of the grid in rows after the others."""
        cells = itertools.product(range(self.grid), repeat=2)
        return (*self.positions, *(f"{row},{column}" for row, column in cells))

    def schemes_up_to(self, crops: int) -> tuple[int, ...]:
        """Return the schemes of at most `crops` crops, ascending.

        Raises:
            InputError: `crops` is no scheme of the protocol.
        """
        if crops not in self.schemes:
            raise InputError(
                f"there is no scheme of {crops} crops in {self.name}; choose one of {listed(self.schemes)}"
            )
        return tuple(scheme for scheme in self.schemes if scheme <= crops)

    def canvas(self, scale: int) -> Canvas:
        """Return how images are resized to a scale."""
        least = 0 if self.fill is None else self.size
        return Canvas(scale, self.fit, self.resampling or "bilinear", self.kernel, least, self.fill or (0, 0, 0))

    def square_of(self, crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the square of a crop on its canvas."""
        lengths = self.canvas(crop.scale).padded(width, height)
        # Along the shorter side all three squares begin at 0.
        sides = lengths if crop.square == "image" else (min(lengths), min(lengths))
        left, top = (_offset(crop.square, outer, side) for outer, side in zip(lengths, sides, strict=True))
        return left, top, left + sides[0], top + sides[1]

    def view_of(self, crop: Crop, width: int, height: int) -> View:
        """Return the box of a crop in an image of `width` × `height` pixels."""
        canvas, (left, top, right, bottom) = self.canvas(crop.scale), self.square_of(crop, width, height)
        side = self.size
        if crop.position == "whole":
            side = right - left
        else:
            across, down = self._start_in(crop.position, (right - left, bottom - top))
            left, top = left + across, top + down
        if crop.mirrored and self.mirror == "image":
            left = canvas.padded(width, height)[0] - side - left
        return View(canvas, left, top, side, self.size, crop.mirrored)

    def views_of(self, width: int, height: int, crops: int | None = None) -> list[View]:
        """Return the views of the first `crops` crops in one image, duplicates included; None for all."""
        return [self.view_of(crop, width, height) for crop in self.crops[:crops]]

    def _start_in(self, position: str, sides: tuple[int, int]) -> tuple[int, int]:
        """Return where the box of a position begins in a square."""
        if position in _IN_SQUARE:
            across, down = _IN_SQUARE[position]
            return _offset(across, sides[0], self.size), _offset(down, sides[1], self.size)
        row, column = map(int, position.split(","))
        return self._step(column, sides[0]), self._step(row, sides[1])

    def _step(self, step: int, side: int) -> int:
        return step * (side - self.size) // (self.grid - 1)

    def _problems(self) -> Iterator[str]:
        """Yield what is wrong with the values as a whole."""
        axes = {
            "squares": self.squares,
            "positions": self.all_positions,
            "scales": self.scales,
            "order": self.order,
        }
        for name, values in axes.items():
            if not values:
                yield f"`{name}` is empty; name at least one"
            if len(set(values)) < len(values):
                yield f"`{name}` holds a value twice; keep one"
        if self.grid == 1:
            yield "a grid of 1 has no steps; use the position centre"
        if sorted(self.order) != sorted(AXES):
            yield f"`order` names {', '.join(AXES)}, each once"
        if self.kernel == "torch" and self.resampling not in (None, *_KERNELS_OF_TORCH):
            yield f'`resampling = "{self.resampling}"` needs `kernel = "pillow"`'
        if self.fill is None and (self.fit == "longer" or min(self.scales) < self.size):
            yield (
                f"a side of {min(self.scales)} pixels holds no crops of {self.size}; use larger `scales`, or pad "
                "with `fill`"
            )
        if "whole" in self.positions and "image" in self.squares and self.fit == "shorter":
            yield "the whole image is no square; leave out `whole`, or use the `squares` centre, first and last"
        yield from self._problems_of_schemes()

    def _problems_of_schemes(self) -> Iterator[str]:
        count = math.prod(map(len, (self.scales, self.squares, self.all_positions))) * (
            1 + (self.mirror != "none")
        )
        if count > _MAX_CROPS:
            yield f"it cuts {count} crops, and {_MAX_CROPS} are the most"
        elif not self.schemes or list(self.schemes) != sorted(set(self.schemes)) or self.schemes[-1] != count:
            yield f"`schemes` are numbers of crops, ascending, of which the last is all {count}"


def _offset(where: Square, outer: int, inner: int) -> int:
    slack = outer - inner
    centres = {"centre": centred_offset(outer, inner), "centre-floor": slack // 2}
    return (centres | {"first": 0, "last": slack, "image": 0})[where]


def listed(schemes: Sequence[int]) -> str:
    """Return numbers of crops as a phrase."""
    return ", ".join(map(str, schemes))


_CORNERS: tuple[Position, ...] = ("centre", "top-left", "top-right", "bottom-left", "bottom-right")
_SQUARES: tuple[Square, ...] = ("centre", "first", "last")


def _googlenet(name: str, size: int, scales: tuple[int, ...], schemes: tuple[int, ...]) -> Protocol:
    """The rule of section 7 of the GoogLeNet paper for other sizes."""
    return Protocol(
        name=name,
        size=size,
        scales=scales,
        squares=_SQUARES,
        positions=(*_CORNERS, "whole"),
        mirror="crop",
        schemes=schemes,
    )


# The input size of the paper, and of all that is not said to be of another size.
CROP_SIZE = 224
GOOGLENET = _googlenet("googlenet", CROP_SIZE, (256, 288, 320, 352), (1, 10, 144))
"""4 scales × 3 squares × 6 positions × 2 mirrors (Szegedy et al. 2014, section 7). The paper gives no order. In
this one the first ten are the 10-crop scheme of `krizhevsky-10`, and the first is the centre crop."""

# torchvision's Resize(256) and TenCrop(224): corners of the whole resized image, and those of its mirror image.
# TenCrop begins with the corners; here the centre comes first, because it is the 1-crop scheme.
_TEN_CROP = Protocol(
    name="torchvision-ten-crop",
    size=224,
    scales=(256,),
    squares=("image",),
    positions=_CORNERS,
    mirror="image",
    order=("scale", "square", "mirror", "position"),
    schemes=(1, 10),
)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        GOOGLENET,
        # Krizhevsky et al. 2012, sections 2 and 4.1: centre and corners of the central square of 256 pixels, and
        # their mirrors. The text states no order.
        Protocol(
            name="krizhevsky-10", size=224, scales=(256,), positions=_CORNERS, mirror="crop", schemes=(1, 10)
        ),
        _TEN_CROP,
        # He et al. 2015, section 3.4, and the README of the authors' repository: "10 224x224 crops from resized
        # image with shorter side=256". They mention no central square, so the corners are those of the whole
        # image, as in fb.resnet.torch, which also resizes bicubically.
        replace(_TEN_CROP, name="resnet-10", resampling="bicubic"),
        # soeaver/caffe-model, cls/evaluation_cls.py: the whole image is squeezed to a square, of which six views
        # and those of its mirror image are taken.
        Protocol(
            name="googlenet-12",
            size=224,
            scales=(256,),
            fit="squeeze",
            positions=(*_CORNERS, "whole"),
            mirror="image",
            schemes=(12,),
        ),
        # The rule of `googlenet` with the scales of the same script. The papers of Inception-v3 and v4 report 1,
        # 12 and 144 crops and state no scales; the first twelve are the views of one square.
        _googlenet("inception-235", 235, (270, 300, 330, 360), (1, 12, 144)),
        _googlenet("inception-299", 299, (320, 352, 384, 416), (1, 12, 144)),
        _googlenet("inception-320", 320, (352, 384, 416, 448), (1, 12, 144)),
        # Simonyan & Zisserman 2014, sections 3.2 and 4.3: a 5 × 5 grid with mirrors at each of three scales. The
        # text does not say what the grid spans: here, the whole resized image from edge to edge. The middle scale
        # comes first, so that 50 crops are those of the scale at which the paper tests with one.
        Protocol(
            name="vgg-150",
            size=224,
            scales=(384, 256, 512),
            squares=("image",),
            positions=(),
            grid=5,
            mirror="crop",
            schemes=(50, 150),
        ),
    )
}
"""The protocols by name."""

OWN = "timm"
"""The name of the protocol by which each member is evaluated as its publisher did, with one crop."""


def own_protocol(
    size: int,
    scale: int,
    mode: Literal["center", "squash", "border"],
    resampling: Resampling,
    mean: Sequence[float],
    centre: Literal["centre", "centre-floor"] = "centre",
) -> Protocol:
    """Return the single crop of an evaluation transform: timm's (`transforms_imagenet_eval`), or one of its kind.

    Args:
        size: The input size of the model.
        scale: The length to which a side is resized.
        mode: Resize the shorter side (`center`), squeeze the image to a square (`squash`), or resize the longer
            side and pad (`border`).
        resampling: The filter. Pillow applies it, as in timm.
        mean: The mean of the model's normalisation, from 0 to 1. `border` pads with it, `center` with black.
        centre: How halves of a pixel are rounded; see `Crop`.
    """
    fits: Mapping[str, Fit] = {"center": "shorter", "squash": "squeeze", "border": "longer"}
    red, green, blue = (round(255 * value) for value in mean) if mode == "border" else (0, 0, 0)
    return Protocol(
        name=OWN,
        size=size,
        scales=(scale,),
        fit=fits[mode],
        squares=("image",),
        positions=(centre,),
        resampling=resampling,
        kernel="pillow",
        fill=(red, green, blue),
        schemes=(1,),
    )


def read_protocol(name: str, folder: Path = Path()) -> Protocol:
    """Return the protocol of a name, or of a TOML file with the fields of `Protocol`.

    Args:
        name: A key of `PROTOCOLS`, or a path that ends with `.toml`.
        folder: Where a relative path starts.

    Raises:
        InputError: There is no such protocol, or the file is invalid.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name == OWN:
        raise InputError(
            f"{OWN} is the crop with which the weights of a member were published, and there is no member here; "
            "choose another protocol"
        )
    if not name.endswith(".toml"):
        raise InputError(
            f"there is no protocol {name}; choose one of {', '.join(PROTOCOLS)}, {OWN}, or a .toml file"
        )
    path = folder / location(name)
    protocol = toml_tables.fill(Protocol, toml_tables.read(path), str(path))
    # Published errors are looked up by name.
    if protocol.name == OWN or PROTOCOLS.get(protocol.name, protocol) != protocol:
        raise InputError(f"{path}: {protocol.name} is the name of another protocol; choose a new `name`")
    return protocol
