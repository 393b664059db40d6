"""From stored detections to mean average precision, for every configuration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.deciding import Configuration, detections_of
from ensemble_eval.detection.proposals import Proposals, united
from ensemble_eval.errors import InputError
from ensemble_eval.scoring.average_precision import (
    COCO,
    COCO_50,
    ILSVRC,
    VOC,
    Matches,
    Rule,
    average_precisions,
    match,
)
from ensemble_eval.scoring.coverage import coverage

RESAMPLES = 1000
# More than any image has.
_ALL = 10**9
_SEED = 0


@dataclass(frozen=True)
class DetectionRow:
    """One row of the table of detection.

    Attributes:
        configuration: proposals and number of models.
        proposals_per_image: the mean number of regions.
        coverage_percent: objects that a proposal overlaps by half or more.
        map_percent: mean average precision by ILSVRC's rule, over the classes that the images show.
        compared_to_base: difference to the first row, percentage points; None for the first.
        interval: its 95% interval, by a bootstrap over images that takes the same images for both rows; None for
            the first.
        by_class_percent: average precision of each class; NaN where there is nothing to find.
        voc_percent: the mean by VOC's rule.
        coco_50_percent: the mean by COCO's rule at an overlap of 0.5.
        coco_percent: the mean by COCO's rule over its ten overlaps.
        images: how many.
        passes: regions through models.
    """

    configuration: Configuration
    proposals_per_image: float
    coverage_percent: float
    map_percent: float
    compared_to_base: float | None
    interval: tuple[float, float] | None
    by_class_percent: NDArray[np.float64]
    voc_percent: float
    coco_50_percent: float
    coco_percent: float
    images: int
    passes: int


def detection_rows(
    stored: Callable[[Configuration], Iterable[Mapping[str, Any]]],
    objects: Mapping[str, Objects],
    proposals: Mapping[str, Mapping[str, Proposals]],
    configurations: Sequence[Configuration],
    num_classes: int,
) -> list[DetectionRow]:
    """The rows, the base first.

    Args:
        stored: gives the rows of `deciding.SCHEMA` of a configuration, images sorted.
        objects: what each image shows.
        proposals: by image, then by set.
        configurations: in the order of the rows.
        num_classes: without that of no object.

    Raises:
        InputError: the images show no object that is to be found.
    """
    if not any((~shown.ignored).any() for shown in objects.values()):
        raise InputError("the images show no object that is to be found; check `boxes`")
    found: list[DetectionRow] = []
    resampled: list[NDArray[np.float64]] = []
    covered = _covered(objects, proposals, {each.sets for each in configurations})
    for each in configurations:
        pairs, regions = [], 0
        for row in stored(each):
            pairs.append((objects[row["image"]], detections_of(row)))
            regions += row["regions"]
        matches = match(pairs, num_classes, ILSVRC)
        by_class = 100 * average_precisions(matches, ILSVRC)
        resampled.append(_resampled(matches))
        mean = float(np.nanmean(by_class))
        found.append(
            DetectionRow(
                configuration=each,
                proposals_per_image=regions / len(objects),
                coverage_percent=100 * covered[each.sets],
                map_percent=mean,
                compared_to_base=mean - found[0].map_percent if found else None,
                interval=_interval(resampled[-1] - resampled[0]) if found else None,
                by_class_percent=by_class,
                voc_percent=_mean(pairs, num_classes, (VOC,)),
                coco_50_percent=_mean(pairs, num_classes, (COCO_50,)),
                coco_percent=_mean(pairs, num_classes, COCO),
                images=len(objects),
                passes=regions * each.models,
            )
        )
    return found


def _covered(
    objects: Mapping[str, Objects],
    proposals: Mapping[str, Mapping[str, Proposals]],
    configurations: Iterable[tuple[str, ...]],
) -> dict[tuple[str, ...], float]:
    """The share of objects that a proposal overlaps by half or more, by the sets that are united."""
    found = {}
    for sets in configurations:
        regions = ((shown, united(proposals[image], sets).boxes) for image, shown in objects.items())
        found[sets] = float(coverage(regions, [_ALL]).at_half[0])
    return found


def _mean(pairs: Sequence[Any], num_classes: int, rules: Sequence[Rule]) -> float:
    """Mean average precision in percent, over classes and rules."""
    means = [np.nanmean(average_precisions(match(pairs, num_classes, rule), rule)) for rule in rules]
    return 100 * float(np.mean(means))


def _resampled(matches: Matches) -> NDArray[np.float64]:
    """Mean average precision in percent on resamples of the images, the same ones whatever the detections."""
    images = len(matches.objects)
    rng = np.random.default_rng(_SEED)
    means = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        precisions = average_precisions(matches, ILSVRC, weights)
        # A resample of few images may hold no object at all.
        means.append(100 * float(np.nanmean(precisions)) if not np.isnan(precisions).all() else np.nan)
    return np.array(means)


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    return float(low), float(high)
