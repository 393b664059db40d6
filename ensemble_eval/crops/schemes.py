"""The crop schemes of section 7 as data: integers only, no pixels.

4 scales × 3 squares × 6 views × 2 mirrors = 144 crops in a fixed order, of which the first ten are the
field's 10-crop scheme and the first is its 1-crop scheme (Krizhevsky et al. 2012), both in the centre
square at scale 256: the paper itself defines neither.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from ensemble_eval.errors import InputError
from ensemble_eval.settings import CROP_SCHEMES

CROP_SIZE = 224
SCALES = (256, 288, 320, 352)
SCHEMES = CROP_SCHEMES

# Centre first: schemes are prefixes of the order.
Square = Literal["centre", "first", "last"]
Position = Literal["centre", "top-left", "top-right", "bottom-left", "bottom-right", "whole"]

SQUARES: tuple[Square, ...] = get_args(Square)
POSITIONS: tuple[Position, ...] = get_args(Position)
# The place of each position's crop in its square, horizontally and vertically.
_IN_SQUARE: dict[Position, tuple[Square, Square]] = {
    "centre": ("centre", "centre"),
    "top-left": ("first", "first"),
    "top-right": ("last", "first"),
    "bottom-left": ("first", "last"),
    "bottom-right": ("last", "last"),
}


@dataclass(frozen=True)
class Crop:
    """One of the 144, independent of any image.

    Attributes:
        scale: length of the resized image's shorter side, in pixels.
        square: which square along the longer side; `first` is left or top, `last` right or bottom.
        position: where in the square; `whole` is the square itself resized to 224×224.
        mirrored: flipped left to right.
    """

    scale: int
    square: Square
    position: Position
    mirrored: bool


@dataclass(frozen=True)
class View:
    """A crop's pixels in one image: a square box in the image resized to `scale`, in pixels.

    Boxes of side `scale` are wholes, resized to 224×224; all others have side 224.
    """

    scale: int
    left: int
    top: int
    side: int
    mirrored: bool

    @property
    def is_whole(self) -> bool:
        """Whether the box is the whole square."""
        return self.side == self.scale


@dataclass(frozen=True)
class CropPlan:
    """The distinct views of one image, and how often each scheme counts them.

    Attributes:
        views: distinct, in the crop order of their first appearance.
        weights: for each scheme, one count per view; a scheme's counts add up to its size.
        view_of_crop: for each crop in the crop order, the position of its view in `views`.
    """

    views: tuple[View, ...]
    weights: dict[int, tuple[int, ...]]
    view_of_crop: tuple[int, ...]

    @property
    def crops(self) -> int:
        """The largest scheme."""
        return max(self.weights)


CROPS: tuple[Crop, ...] = tuple(
    Crop(scale, square, position, mirrored)
    for scale, square, position, mirrored in itertools.product(SCALES, SQUARES, POSITIONS, (False, True))
)


def schemes_up_to(crops: int) -> tuple[int, ...]:
    """The schemes of at most `crops` crops, ascending.

    Raises:
        InputError: `crops` is no scheme.
    """
    if crops not in SCHEMES:
        known = ", ".join(map(str, SCHEMES))
        raise InputError(f"there is no scheme of {crops} crops; choose one of {known}")
    return tuple(scheme for scheme in SCHEMES if scheme <= crops)


def resized_size(width: int, height: int, scale: int) -> tuple[int, int]:
    """Width and height after the shorter side becomes `scale`; the longer side is rounded down."""
    shorter, longer = sorted((width, height))
    other = scale * longer // shorter
    return (scale, other) if width <= height else (other, scale)


def centred_offset(outer: int, inner: int) -> int:
    """Where `inner` pixels start when centred in `outer`: halves are rounded to even (Python's round)."""
    return round((outer - inner) / 2)


def view_of(crop: Crop, width: int, height: int) -> View:
    """The box of a crop in an image of `width` × `height` pixels."""
    new_width, new_height = resized_size(width, height, crop.scale)
    # Along the shorter side all three squares begin at 0.
    left, top = (_offset(crop.square, length, crop.scale) for length in (new_width, new_height))
    if crop.position == "whole":
        return View(crop.scale, left, top, crop.scale, crop.mirrored)
    dx, dy = (_offset(where, crop.scale, CROP_SIZE) for where in _IN_SQUARE[crop.position])
    return View(crop.scale, left + dx, top + dy, CROP_SIZE, crop.mirrored)


def views_of(width: int, height: int, crops: int = len(CROPS)) -> list[View]:
    """The views of the first `crops` crops in one image, duplicates included."""
    return [view_of(crop, width, height) for crop in CROPS[:crops]]


def plan(width: int, height: int, crops: int) -> CropPlan:
    """The distinct views for the schemes up to `crops`, so that no pass is run twice.

    A square image's three squares coincide: 48 views, each of weight 3.

    Raises:
        InputError: `crops` is no scheme.

    Example:
        >>> len(plan(500, 375, 144).views), len(plan(300, 300, 144).views)
        (144, 48)
    """
    schemes = schemes_up_to(crops)
    views = views_of(width, height, crops)
    distinct = tuple(dict.fromkeys(views))
    counts = {scheme: Counter(views[:scheme]) for scheme in schemes}
    weights = {scheme: tuple(counts[scheme][view] for view in distinct) for scheme in schemes}
    position = {view: number for number, view in enumerate(distinct)}
    return CropPlan(distinct, weights, tuple(position[view] for view in views))


def _offset(where: Square, outer: int, inner: int) -> int:
    return {"centre": centred_offset(outer, inner), "first": 0, "last": outer - inner}[where]
