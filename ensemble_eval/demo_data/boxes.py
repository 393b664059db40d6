"""The format of `boxes.json`: what of every object can be seen in a drawn picture, as COCO's JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.objects import Layer, Stencil

# Antialiased borders belong to an object where it covers at least half of the pixel.
_COVERED = 128
# As a person who draws boxes would say "difficult" (PASCAL VOC): of the object too little is left to name it.
_DIFFICULT_BELOW = 0.25


@dataclass(frozen=True)
class VisibleObject:
    """An object of a class, as far as a picture shows it.

    Attributes:
        class_name: its class.
        box: left, top, right, bottom of its visible pixels; right and bottom are the first pixels beyond.
        pixels: how many of its pixels are visible.
        visible_share: of its pixels that lie in the picture, the part that nothing else hides.
    """

    class_name: str
    box: tuple[int, int, int, int]
    pixels: int
    visible_share: float

    @property
    def is_difficult(self) -> bool:
        """Whether too little of it is visible to expect that anyone finds it."""
        return self.visible_share < _DIFFICULT_BELOW


def visible_objects(layers: Sequence[Layer], size: tuple[int, int]) -> list[VisibleObject]:
    """The objects of which at least one pixel is visible, in the order in which they were painted.

    Args:
        layers: what was painted, in this order: each hides what lies below it.
        size: width and height of the picture.
    """
    hidden = np.zeros((size[1], size[0]), dtype=bool)
    found = []
    for layer in reversed(layers):
        covered = _covered(layer.stencil, hidden.shape)
        visible = covered & ~hidden
        box = Image.fromarray(visible).getbbox()
        if layer.class_name is not None and box is not None:
            pixels = int(np.count_nonzero(visible))
            found.append(VisibleObject(layer.class_name, box, pixels, pixels / int(np.count_nonzero(covered))))
        hidden |= covered
    return found[::-1]


def coco_json(images: Iterable[tuple[str, tuple[int, int], Sequence[VisibleObject]]]) -> str:
    """The boxes of a data set in COCO's format for object detection.

    Each annotation has besides COCO's own keys `visible_share`, and `difficult` (0 or 1) as PASCAL VOC has it.
    Categories are numbered from 1 in the order of the classes, as images and annotations are in theirs.

    Args:
        images: path below the data set, (width, height) and objects of each.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (path, (width, height), objects) in enumerate(images, start=1):
        entries.append({"id": number, "file_name": path, "width": width, "height": height})
        for each in objects:
            annotations.append(_annotation(each, len(annotations) + 1, number))
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES, start=1)]
    return json.dumps({"images": entries, "annotations": annotations, "categories": categories}, indent=1) + "\n"


def _annotation(each: VisibleObject, number: int, image: int) -> dict[str, Any]:
    left, top, right, bottom = each.box
    return {
        "id": number,
        "image_id": image,
        "category_id": CLASS_NAMES.index(each.class_name) + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": each.pixels,
        "iscrowd": 0,
        "difficult": int(each.is_difficult),
        "visible_share": round(each.visible_share, 4),
    }


def _covered(stencil: Stencil, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    left, top, right, bottom = stencil.box
    covered = np.zeros(shape, dtype=bool)
    covered[top:bottom, left:right] = np.asarray(stencil.mask) >= _COVERED
    return covered
