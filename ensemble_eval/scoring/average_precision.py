"""Average precision of detections, by the rules of ILSVRC, PASCAL VOC and COCO. Pure numpy.

Boxes are those of `datasets.boxes`: right and bottom lie beyond the last pixel, so widths are plain differences.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes, Objects

# ILSVRC widens small objects by this many pixels when it asks for overlap: boxes around them are drawn no better.
_TOLERANCE_PIXELS = 10
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Detections:
    """What was found in an image.

    Attributes:
        boxes: float64 [detections, 4].
        classes: int64 [detections].
        scores: float64 [detections].
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """What counts as a hit, and how precision and recall become one number.

    Attributes:
        matching: `ilsvrc`: the free object of most overlap, and small objects need less overlap. `voc`: the object
            of most overlap, whether it is free or not. `coco`: the free object of most overlap, and an ignored
            object only if no other fits.
        least_overlap: The least intersection over union of a hit.
        area: `exact`: the area under the curve of the greatest precision at that recall or more. `101`: the mean
            of that precision at 101 recalls, as for COCO.
        most_detections: The number of detections of an image and class that count, the best ones; None for all.
    """

    matching: Literal["ilsvrc", "voc", "coco"]
    least_overlap: float = 0.5
    area: Literal["exact", "101"] = "exact"
    most_detections: int | None = None


ILSVRC = Rule("ilsvrc")
VOC = Rule("voc")
COCO_50 = Rule("coco", 0.5, "101", 100)
COCO = tuple(Rule("coco", round(0.5 + 0.05 * step, 2), "101", 100) for step in range(10))
"""COCO's mean is over these."""


@dataclass(frozen=True)
class Matches:
    """The detections that count, class by class, each with the best scores first, and each a hit or not.

    What becomes of an image's detections depends on no other image. So precision for any choice of images, such as
    a resample of them, follows from here.

    Attributes:
        images: int64 [detections].
        hits: bool [detections].
        ends: int64 [classes], where each class's detections end.
        objects: int64 [images, classes], those that are to be found.
    """

    images: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ends: NDArray[np.int64]
    objects: NDArray[np.int64]


class Matching:
    """Decides which detections are hits, image by image, by several rules at once.

    Detections with equal scores keep the order of the images, and of the detections of an image.

    Args:
        num_classes: Classes are indices below it.
        rules: The rules; a repeated rule is applied once.
    """

    def __init__(self, num_classes: int, rules: Iterable[Rule]) -> None:
        self._num_classes, self._rules = num_classes, tuple(dict.fromkeys(rules))
        self._found: list[_OfClass] = []
        self._objects: list[NDArray[np.int64]] = []

    def add(self, shown: Objects, detections: Detections) -> None:
        """Add one image, with the objects that it shows and its detections."""
        for class_index in np.unique(detections.classes):
            self._found.append(self._of_class(shown, detections, int(class_index)))
        to_find = shown.classes[~shown.ignored]
        self._objects.append(np.bincount(to_find, minlength=self._num_classes))

    def matches(self, rule: Rule) -> Matches:
        """The detections of all images so far that count by one of the rules."""
        row = self._rules.index(rule)
        counts = np.array([len(each.scores) for each in self._found], np.int64)
        images = np.repeat(np.array([each.image for each in self._found], np.int64), counts)
        classes = np.repeat(np.array([each.class_index for each in self._found], np.int64), counts)
        scores = np.concatenate([np.zeros(0), *(each.scores for each in self._found)])
        outcomes = np.concatenate([np.zeros(0, np.int8), *(each.outcomes[row] for each in self._found)])
        counting = np.flatnonzero(outcomes != _IGNORED)
        order = counting[np.lexsort((-scores[counting], classes[counting]))]
        ends = np.cumsum(np.bincount(classes[order], minlength=self._num_classes))
        objects = np.array(self._objects, np.int64).reshape(len(self._objects), self._num_classes)
        return Matches(images[order], outcomes[order] == _HIT, ends, objects)

    def _of_class(self, shown: Objects, detections: Detections, class_index: int) -> "_OfClass":
        mine = np.flatnonzero(detections.classes == class_index)
        mine = mine[np.argsort(-detections.scores[mine], kind="stable")]
        its = shown.classes == class_index
        of_class = Objects(shown.boxes[its], shown.classes[its], shown.ignored[its], shown.crowd[its])
        boxes = detections.boxes[mine]
        overlap = overlaps(boxes, of_class.boxes)
        with_crowds = _with_crowds(overlap, boxes, of_class)
        outcomes = np.full((len(self._rules), len(mine)), _IGNORED, np.int8)
        for row, rule in zip(outcomes, self._rules, strict=True):
            best = (with_crowds if rule.matching == "coco" else overlap)[: rule.most_detections]
            row[: len(best)] = _outcomes(best, of_class, rule)
        return _OfClass(len(self._objects), class_index, detections.scores[mine], outcomes)


def average_precisions(
    matches: Matches, rule: Rule, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Average precision of each class, float64 [classes]; NaN where there is nothing to find.

    Args:
        matches: Of the same rule.
        rule: The rule, for its `area`.
        weights: int64 [images], how often each image counts, as in a bootstrap; None for once each.
    """
    if weights is None:
        weights = np.ones(len(matches.objects), np.int64)
    to_find = weights @ matches.objects
    area = _exact_area if rule.area == "exact" else _area_at_101_recalls
    precisions = np.full(len(to_find), np.nan)
    for class_index in np.flatnonzero(to_find):
        of_class = slice(matches.ends[class_index - 1] if class_index else 0, matches.ends[class_index])
        counts = weights[matches.images[of_class]]
        hits = np.cumsum(np.where(matches.hits[of_class], counts, 0))
        all_found = np.cumsum(counts)
        seen = all_found > 0
        greatest_later = np.maximum.accumulate((hits[seen] / all_found[seen])[::-1])[::-1]
        precisions[class_index] = area(hits[seen] / to_find[class_index], greatest_later)
    return precisions


def overlaps(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """Intersection over union, float64 [len(one), len(other)]."""
    intersection = _intersections(one, other)
    union = _areas(one)[:, None] + _areas(other)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


_IGNORED, _MISS, _HIT = 0, 1, 2


@dataclass(frozen=True)
class _OfClass:
    """The detections of one class in one image, best first: float64 [detections], int8 [rules, detections]."""

    image: int
    class_index: int
    scores: NDArray[np.float64]
    outcomes: NDArray[np.int8]


def _outcomes(overlap: NDArray[np.float64], shown: Objects, rule: Rule) -> list[int]:
    """An outcome for each detection of one class, best first, from their overlaps [detections, objects]."""
    free = np.ones(len(shown.boxes), bool)
    outcomes = []
    for of_detection, fits in zip(overlap, overlap >= _least_overlaps(shown, rule), strict=True):
        candidates = _CANDIDATES[rule.matching](fits, free, shown)
        if not len(candidates):
            outcomes.append(_MISS)
            continue
        best = candidates[np.argmax(of_detection[candidates])]
        outcomes.append(_IGNORED if shown.ignored[best] else _HIT if free[best] else _MISS)
        free[best] = False
    return outcomes


def _least_overlaps(shown: Objects, rule: Rule) -> NDArray[np.float64]:
    """The least overlap with each object: float64 [objects]."""
    if rule.matching == "ilsvrc":
        widened = np.prod(shown.boxes[:, 2:] - shown.boxes[:, :2] + _TOLERANCE_PIXELS, axis=1)
        least: NDArray[np.float64] = np.minimum(rule.least_overlap, _areas(shown.boxes) / widened)
        return least
    return np.full(len(shown.boxes), min(rule.least_overlap, 1 - 1e-10))


def _ilsvrc_candidates(fits: NDArray[np.bool_], free: NDArray[np.bool_], _: Objects) -> NDArray[np.intp]:
    """By the development kit (ILSVRC 2014): the others do not see an object that was found."""
    return np.flatnonzero(fits & free)


def _voc_candidates(fits: NDArray[np.bool_], _free: NDArray[np.bool_], _: Objects) -> NDArray[np.intp]:
    """By the development kit (VOC 2012): a second detection of one object is a miss, even near another object."""
    return np.flatnonzero(fits)


def _coco_candidates(fits: NDArray[np.bool_], free: NDArray[np.bool_], shown: Objects) -> NDArray[np.intp]:
    """By COCO: of equal overlaps the last object; a crowd takes any number of detections that lie in it."""
    fits = fits & (free | shown.crowd)
    counting = fits & ~shown.ignored
    return np.flatnonzero(counting if counting.any() else fits)[::-1]


_CANDIDATES = {"ilsvrc": _ilsvrc_candidates, "voc": _voc_candidates, "coco": _coco_candidates}
"""The objects that a detection may be a hit of, in the order in which equal overlaps are preferred."""


def _with_crowds(overlap: NDArray[np.float64], found: Boxes, shown: Objects) -> NDArray[np.float64]:
    """Overlaps as COCO has them: with a crowd, the share of the detection that lies in it."""
    if not shown.crowd.any():
        return overlap
    areas = _areas(found)[:, None]
    inside = np.divide(_intersections(found, shown.boxes), areas, out=np.zeros_like(overlap), where=areas > 0)
    return np.where(shown.crowd[None, :], inside, overlap)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return areas


def _intersections(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    areas: NDArray[np.float64] = np.prod(np.clip(high - low, 0.0, None), axis=2)
    return areas


def _exact_area(recall: NDArray[np.float64], greatest_later_precision: NDArray[np.float64]) -> float:
    steps = np.diff(recall, prepend=0.0)
    return float((steps * greatest_later_precision).sum())


def _area_at_101_recalls(recall: NDArray[np.float64], greatest_later_precision: NDArray[np.float64]) -> float:
    places = np.searchsorted(recall, _RECALLS, side="left")
    heights = np.append(greatest_later_precision, 0.0)
    return float(heights[places].mean())
