"""Mean average precision of stored detections, and its tables with a row for every configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.deciding import Configuration, detections_of
from ensemble_eval.detection.proposals import Proposals, united
from ensemble_eval.errors import InputError
from ensemble_eval.paper.published import TABLE_4, TABLE_5, among
from ensemble_eval.scoring.average_precision import (
    COCO,
    COCO_50,
    ILSVRC,
    VOC,
    Matches,
    Matching,
    Rule,
    average_precisions,
)
from ensemble_eval.scoring.coverage import Coverage
from ensemble_eval.tables.table import Column, FilledColumn, Table, marked, marks, table_of

RESAMPLES = 1000
# More than any image has.
_ALL = 10**9
_SEED = 0


@dataclass(frozen=True)
class DetectionRow:
    """One row of the table of detection.

    Attributes:
        configuration: The proposals, the number of models and the classifier.
        proposals_per_image: The mean number of regions.
        coverage_percent: The share of objects that a proposal overlaps by half or more.
        map_percent: Mean average precision by ILSVRC's rule, over the classes that the images show.
        by_class_percent: The average precision of each class; NaN for a class that no image shows.
        voc_percent: Mean average precision by VOC's rule.
        coco_50_percent: Mean average precision by COCO's rule at an overlap of 0.5.
        coco_percent: Mean average precision by COCO's rule over its ten overlaps.
        images: The number of images.
        passes: The number of regions that went through models.
        compared_to_base: The difference to the first row in percentage points; None for the first row.
        interval: The 95% interval of this difference, by a bootstrap that takes the same images for both rows;
            None for the first row, and without a bootstrap.
    """

    configuration: Configuration
    proposals_per_image: float
    coverage_percent: float
    map_percent: float
    by_class_percent: NDArray[np.float64]
    voc_percent: float
    coco_50_percent: float
    coco_percent: float
    images: int
    passes: int
    compared_to_base: float | None = None
    interval: tuple[float, float] | None = None


EvaluatedImage = tuple[Objects, Mapping[str, Proposals], Sequence[Mapping[str, Any]]]
"""The objects of an image, its proposals by set, and its stored rows, one for each configuration."""


def detection_rows(
    images: Iterable[EvaluatedImage],
    configurations: Sequence[Configuration],
    num_classes: int,
    resamples: int = RESAMPLES,
) -> list[DetectionRow]:
    """The rows of the table of detection, in the order of the configurations.

    Args:
        images: All images, sorted; each is asked for once.
        configurations: The configurations; the rows are compared to the first.
        num_classes: The number of classes, without "no object".
        resamples: The number of resamples of the images for the intervals; 0 for rows without intervals.

    Raises:
        InputError: The images show no object of these classes.
    """
    matchings = [Matching(num_classes, (ILSVRC, VOC, COCO_50, *COCO)) for _ in configurations]
    covered = {each.sets: Coverage([_ALL]) for each in configurations}
    regions = np.zeros(len(configurations), np.int64)
    for shown, proposals, stored in images:
        for matching, row in zip(matchings, stored, strict=True):
            matching.add(shown, detections_of(row))
        for sets, count in covered.items():
            count.add(shown, united(proposals, sets).boxes)
        regions += [row["regions"] for row in stored]
    if not matchings[0].matches(ILSVRC).objects.any():
        raise InputError("the images show no object that is to be found; check `boxes`")
    rows = [
        _row(configuration, matching, covered[configuration.sets], int(count))
        for configuration, matching, count in zip(configurations, matchings, regions, strict=True)
    ]
    base, *resampled = [_resampled(matching.matches(ILSVRC), resamples) for matching in matchings]
    compared = (
        replace(
            row,
            compared_to_base=row.map_percent - rows[0].map_percent,
            interval=_interval(each - base) if resamples else None,
        )
        for row, each in zip(rows[1:], resampled, strict=True)
    )
    return [rows[0], *compared]


def _row(configuration: Configuration, matching: Matching, covered: Coverage, regions: int) -> DetectionRow:
    """A row before it is compared to the first."""
    matches = matching.matches(ILSVRC)
    by_class, images = 100 * average_precisions(matches, ILSVRC), len(matches.objects)
    return DetectionRow(
        configuration=configuration,
        proposals_per_image=regions / images,
        coverage_percent=100 * float(covered.at_half[0]),
        map_percent=float(np.nanmean(by_class)),
        by_class_percent=by_class,
        voc_percent=_mean(matching, VOC),
        coco_50_percent=_mean(matching, COCO_50),
        coco_percent=_mean(matching, *COCO),
        images=images,
        passes=regions * configuration.models,
    )


def _mean(matching: Matching, *rules: Rule) -> float:
    """Mean average precision in percent, over classes and rules."""
    return 100 * float(np.mean([np.nanmean(average_precisions(matching.matches(rule), rule)) for rule in rules]))


def _resampled(matches: Matches, resamples: int) -> NDArray[np.float64]:
    """Mean average precision in percent on resamples of the images, which are the same for all rows."""
    images = len(matches.objects)
    rng = np.random.default_rng(_SEED)
    means = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        precisions = average_precisions(matches, ILSVRC, weights)
        # A resample of few images may hold no object at all.
        means.append(100 * float(np.nanmean(precisions)) if not np.isnan(precisions).all() else np.nan)
    return np.array(means)


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    return float(low), float(high)


_Cells = tuple[FilledColumn[DetectionRow], ...]
_CONFIGURATION: _Cells = (
    ("proposals", "proposals", "text", lambda row: row.configuration.proposals),
    ("models", "models", "count", lambda row: row.configuration.models),
    ("scores", "scores", "text", lambda row: row.configuration.classifier),
)
_CELLS: _Cells = (
    *_CONFIGURATION,
    ("proposals_per_image", "proposals an image", "number", lambda row: row.proposals_per_image),
    ("coverage", "coverage", "percent", lambda row: row.coverage_percent),
    ("map", "mAP", "percent", lambda row: row.map_percent),
    ("compared_to_base", "vs. base", "points", lambda row: row.compared_to_base or 0.0),
    ("interval", "95% interval", "points interval", lambda row: row.interval),
    ("images", "images", "count", lambda row: row.images),
    ("passes", "passes", "count", lambda row: row.passes),
)
_RULES: _Cells = (
    *_CONFIGURATION,
    ("ilsvrc", "ILSVRC", "percent", lambda row: row.map_percent),
    ("voc", "VOC", "percent", lambda row: row.voc_percent),
    ("coco_50", "COCO at 0.5", "percent", lambda row: row.coco_50_percent),
    ("coco", "COCO, 0.5 to 0.95", "percent", lambda row: row.coco_percent),
)


_NOTES = (
    "Coverage is the share of objects that a proposal overlaps by half or more; mAP is the mean average precision "
    "by ILSVRC's rule.",
    f"Intervals are of the difference to the first row, from {RESAMPLES} resamples of the images, the same for "
    "both.",
)


def detection_table(rows: Sequence[DetectionRow]) -> Table:
    """A row for every configuration."""
    return table_of("detection", f"Detection on {rows[0].images} images", rows, _CELLS, _NOTES)


def partial_table(rows: Sequence[DetectionRow], missing: int, images: int) -> Table:
    """As `detection_table`, without intervals, while some images of all are missing."""
    table = table_of("partial", f"Detection on {rows[0].images} images", rows, _CELLS, _NOTES[:1])
    return marked(table.without("interval"), marks(missing, images))


def rules_table(rows: Sequence[DetectionRow]) -> Table:
    """Mean average precision by the rules of ILSVRC, VOC and COCO."""
    return table_of("average_precision_rules", "Mean average precision by other rules", rows, _RULES)


def class_table(rows: Sequence[DetectionRow], names: Sequence[str]) -> Table:
    """Average precision by class, a column for every configuration."""
    words = [[str(cell(each)) for *_, cell in _CONFIGURATION] for each in rows]
    columns = [Column("_".join(each).replace(" ", ""), ", ".join(each), "percent") for each in words]
    cells = tuple(
        (name, *(None if np.isnan(value) else float(value) for value in values))
        for name, values in zip(names, np.stack([each.by_class_percent for each in rows], axis=1), strict=True)
    )
    return Table(
        "average_precision_by_class", "Average precision by class", (Column("class", "class"), *columns), cells
    )


def published_tables(rows: Sequence[DetectionRow], data: str) -> list[Table]:
    """Tables 4 and 5 of the paper with this run's best rows, marked as measured here.

    Args:
        rows: The rows of this run.
        data: The images that it was measured on, as a phrase.
    """
    best = max(rows, key=lambda each: each.map_percent)
    single = max((each for each in rows if each.configuration.models == 1), key=lambda each: each.map_percent)
    here = f"measured here, on {data}"
    ours = ("this run", "", "", best.map_percent, "", str(best.configuration.models), here)
    ours_alone = ("this run", single.map_percent, "no", "no", here)
    return [among(TABLE_4, ours, "map"), among(TABLE_5, ours_alone, "map")]
