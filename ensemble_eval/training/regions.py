"""Regions of pictures to learn from: objects, and what only looks like one (R-CNN, sections 2.3 and appendix B).

A region is a box around an object, moved and stretched a little, with the object's class, or a box that overlaps
no object enough to be it, with the class of no object. Which boxes they are follows from the seed and the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ensemble_eval.datasets.boxes import Boxes, Objects, read_boxes
from ensemble_eval.datasets.items import Item
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.scoring.average_precision import overlaps
from ensemble_eval.training.config import Regions
from ensemble_eval.training.samples import ImageSource, Sample
from ensemble_eval.training.seeds import derived_seed

# As in R-CNN's fine-tuning: at least half of the union is an object's.
LEAST_OVERLAP = 0.5
# Draws for one region; where none fits, the image has fewer.
_DRAWS = 60

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RegionItem:
    """A region of an image, an `Item` whose bytes are the image's.

    Attributes:
        image: index of the image in its source.
        box: left, top, right, bottom in pixels.
    """

    id: str
    label: int
    image: int
    box: _Box
    of: Item

    def read(self) -> bytes:
        """The bytes of the image's file."""
        return self.of.read()

    def digest(self) -> bytes:
        """The digest of the image's file."""
        return self.of.digest()


class RegionSource(ImageSource):
    """Warped regions of the images of a source.

    Args:
        images: the pictures.
        items: their regions.
        size: side of the warped regions, pixels.
    """

    def __init__(self, images: ImageSource, items: Sequence[RegionItem], size: int) -> None:
        self.items: Sequence[RegionItem] = items
        self._images, self._size = images, size

    def decode(self, index: int) -> Tensor:
        """A region as uint8 [3, size, size]."""
        region = self.items[index]
        return warp_regions(self._images.decode(region.image), np.array([region.box]), self._size)[0]

    def validation_sample(self, index: int, size: int) -> Sample:
        """The whole region, as a detector sees it."""
        assert size == self._size
        return Sample(self.decode(index), self.items[index].label)


def open_regions(
    images: ImageSource, boxes: Path, classes: Sequence[str], plan: Regions, size: int
) -> RegionSource:
    """The regions of the images of a source, by their annotations.

    Images that cannot be read have none.

    Args:
        images: the pictures.
        boxes: the file or folder of their annotations.
        classes: of the objects.
        plan: how many regions an image has.
        size: side of the warped regions, pixels.

    Raises:
        InputError: the annotations cannot be used, or there is not one region.
    """
    objects = read_boxes(boxes, classes, [item.id for item in images.items])
    sizes = [_size(images, index) for index in range(len(images.items))]
    items = region_items(images.items, sizes, objects, plan, len(classes))
    if not items:
        raise InputError(f"{boxes} leaves no regions to learn from; the images show no objects")
    return RegionSource(images, items, size)


def _size(images: ImageSource, index: int) -> tuple[int, int] | None:
    """Width and height; None where the image cannot be read."""
    try:
        _, height, width = images.decode(index).shape
    except UnreadableImageError:
        return None
    return width, height


def region_items(
    images: Sequence[Item],
    sizes: Sequence[tuple[int, int] | None],
    objects: Mapping[str, Objects],
    plan: Regions,
    num_classes: int,
) -> list[RegionItem]:
    """The regions of some images, in their order.

    Args:
        images: of the data set.
        sizes: width and height of each image in pixels; None for one that has no regions.
        objects: what each image shows, by its id.
        plan: how many regions an image has.
        num_classes: of the objects; the next index is that of no object.
    """
    found = []
    for index, (image, size) in enumerate(zip(images, sizes, strict=True)):
        if size is None:
            continue
        rng = np.random.default_rng(derived_seed("regions", plan.seed, index))
        shown = objects[image.id]
        for number, (box, label) in enumerate(_regions(shown, size, plan, num_classes, rng)):
            found.append(RegionItem(f"{image.id}#{number}", label, index, box, image))
    return found


def _regions(
    shown: Objects, size: tuple[int, int], plan: Regions, num_classes: int, rng: np.random.Generator
) -> list[tuple[_Box, int]]:
    """Boxes with their classes."""
    known = ~shown.ignored
    found: list[tuple[_Box, int]] = []
    for number in range(plan.objects if known.any() else 0):
        each = np.flatnonzero(known)[number % int(known.sum())]
        if (box := _near(shown.boxes[each], size, (LEAST_OVERLAP, 1.0), 0.25, rng)) is not None:
            found.append((box, int(shown.classes[each])))
    for number in range(plan.backgrounds):
        # A detector's hardest regions are parts of an object, and those that hold one among other things.
        near = number % 2 == 0 and len(shown.boxes) > 0
        box = (
            _near(shown.boxes[rng.integers(len(shown.boxes))], size, (0.1, LEAST_OVERLAP), 1.0, rng)
            if near
            else _anywhere(size, rng)
        )
        if box is not None and (overlaps(np.array([box]), shown.boxes) < LEAST_OVERLAP).all():
            found.append((box, num_classes))
    return found


def _near(
    box: Boxes, size: tuple[int, int], overlap: tuple[float, float], spread: float, rng: np.random.Generator
) -> _Box | None:
    """A box moved by up to `spread` of its sides and stretched as much, of an overlap between two bounds."""
    sides = box[2:] - box[:2]
    for _ in range(_DRAWS):
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-spread, spread, 2) * sides / 2
        drawn = sides * np.exp(rng.uniform(-spread, spread, 2))
        moved = _inside(np.concatenate([centre - drawn / 2, centre + drawn / 2]), size)
        if overlap[0] <= float(overlaps(moved[None], box[None])[0, 0]) < overlap[1] or (
            overlap[1] == 1.0 and np.array_equal(moved, box)
        ):
            return _as_tuple(moved)
    return None


def _anywhere(size: tuple[int, int], rng: np.random.Generator) -> _Box:
    """A box with sides from a twentieth of the image's to all of them, uniform in their logarithms."""
    limits = np.array(size, np.float64)
    sides = np.maximum(limits * np.exp(rng.uniform(np.log(0.05), 0.0, 2)), 8.0)
    sides = np.minimum(sides, limits)
    corner = rng.uniform(0.0, 1.0, 2) * (limits - sides)
    return _as_tuple(_inside(np.concatenate([corner, corner + sides]), size))


def _inside(box: Boxes, size: tuple[int, int]) -> Boxes:
    """In whole pixels of the image, at least one in each direction."""
    width, height = size
    left, top, right, bottom = np.round(box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return np.array([left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height)], np.float64)


def _as_tuple(box: Boxes) -> _Box:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom
