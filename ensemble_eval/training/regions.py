"""Regions of images to learn from: objects, and boxes that only look like one (R-CNN, section 2.3 and appendix B).

A region is either a box around an object, moved and stretched a little, with the object's class, or a box that
overlaps every object too little, with the class "no object". The seed and the image decide which boxes these are.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
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

# As in R-CNN's fine-tuning: intersection over union with an object.
MIN_OVERLAP = 0.5
# Draws for one region; if none of them fits, the image has one region less.
_DRAWS = 60

_Box = tuple[float, ...]
_Size = tuple[int, int]


@dataclass(frozen=True)
class RegionItem:
    """A region of an image, an `Item` whose bytes are the image's.

    Attributes:
        image: The image's index in its source.
        box: Left, top, right and bottom in pixels.
        of: The image.
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
        images: The images.
        items: Their regions.
        size: The side of the warped regions, in pixels.
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
    """The regions of the images of a source, by their annotations; images that cannot be read have none.

    Args:
        images: The images.
        boxes: The file or folder of their annotations.
        classes: The classes of the objects.
        plan: How many regions an image has.
        size: The side of the warped regions, in pixels.

    Raises:
        InputError: The annotations cannot be used, or there is no region at all.
    """
    objects = read_boxes(boxes, classes, [item.id for item in images.items])
    sizes = dict[int, _Size]()
    for index in range(len(images.items)):
        with contextlib.suppress(UnreadableImageError):
            _, height, width = images.decode(index).shape
            sizes[index] = (width, height)
    items = region_items(images.items, sizes, objects, plan, len(classes))
    if not items:
        raise InputError(f"{boxes} leaves no regions to learn from; the images show no objects")
    return RegionSource(images, items, size)


def region_items(
    images: Sequence[Item],
    sizes: Mapping[int, _Size],
    objects: Mapping[str, Objects],
    plan: Regions,
    num_classes: int,
) -> list[RegionItem]:
    """The regions of some images, in their order.

    Args:
        images: The images of the data set.
        sizes: The width and height in pixels of each image that has regions, by the image's index.
        objects: The objects of each image, by its id.
        plan: How many regions an image has.
        num_classes: The number of classes of objects, which is the index of "no object".
    """
    found = []
    for index, size in sizes.items():
        image, rng = images[index], np.random.default_rng(derived_seed("regions", plan.seed, index))
        for number, (box, label) in enumerate(_regions(objects[image.id], size, plan, num_classes, rng)):
            found.append(RegionItem(f"{image.id}#{number}", label, index, tuple(box.tolist()), image))
    return found


def _regions(
    shown: Objects, size: _Size, plan: Regions, num_classes: int, rng: np.random.Generator
) -> Iterator[tuple[Boxes, int]]:
    """Boxes with their classes."""
    known = np.flatnonzero(~shown.ignored)
    for number in range(plan.objects if len(known) else 0):
        each = known[number % len(known)]
        if (box := _near(shown.boxes[each], size, (MIN_OVERLAP, np.inf), 0.25, rng)) is not None:
            yield box, int(shown.classes[each])
    for number in range(plan.backgrounds):
        # A detector's hardest regions are parts of an object, and those that hold one among other things.
        if number % 2 == 0 and len(shown.boxes):
            around = shown.boxes[rng.integers(len(shown.boxes))]
            box = _near(around, size, (0.1, MIN_OVERLAP), 1.0, rng)
        else:
            box = _anywhere(size, rng)
        if box is not None and (overlaps(box[None], shown.boxes) < MIN_OVERLAP).all():
            yield box, num_classes


def _near(
    box: Boxes, size: _Size, overlap: tuple[float, float], spread: float, rng: np.random.Generator
) -> Boxes | None:
    """A box moved by up to `spread` of its sides and stretched as much, of an overlap between two bounds."""
    sides = box[2:] - box[:2]
    for _ in range(_DRAWS):
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-spread, spread, 2) * sides / 2
        drawn = sides * np.exp(rng.uniform(-spread, spread, 2))
        moved = _inside(centre - drawn / 2, centre + drawn / 2, size)
        if overlap[0] <= float(overlaps(moved[None], box[None])[0, 0]) < overlap[1]:
            return moved
    return None


def _anywhere(size: _Size, rng: np.random.Generator) -> Boxes:
    """A box with sides from a twentieth of the image's to all of them, uniform in their logarithms."""
    limits = np.array(size, np.float64)
    sides = np.minimum(np.maximum(limits * np.exp(rng.uniform(np.log(0.05), 0.0, 2)), 8.0), limits)
    corner = rng.uniform(0.0, 1.0, 2) * (limits - sides)
    return _inside(corner, corner + sides, size)


def _inside(upper_left: Boxes, lower_right: Boxes, size: _Size) -> Boxes:
    """A box in whole pixels of the image, at least one in each direction."""
    first = np.clip(np.round(upper_left), 0, np.array(size) - 1)
    return np.concatenate([first, np.clip(np.round(lower_right), first + 1, size)])
