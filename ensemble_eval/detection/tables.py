"""The tables of detection: this run's rows, and Tables 4 and 5 of the paper with this run among them."""

from collections.abc import Sequence

import numpy as np

from ensemble_eval.detection.deciding import Configuration
from ensemble_eval.detection.evaluating import RESAMPLES, DetectionRow
from ensemble_eval.paper.published import TABLE_4, TABLE_5
from ensemble_eval.tables.table import Column, Table, Value

_CONFIGURATION = (
    Column("proposals", "proposals"),
    Column("models", "models", "count"),
    Column("scores", "scores"),
)
_COLUMNS = (
    *_CONFIGURATION,
    Column("proposals_per_image", "proposals an image", "number"),
    Column("coverage", "coverage", "percent"),
    Column("map", "mAP", "percent"),
    Column("compared_to_base", "to base", "points"),
    Column("interval", "95% interval", "points interval"),
    Column("images", "images", "count"),
    Column("passes", "passes", "count"),
)
_RULES = (
    *_CONFIGURATION,
    Column("ilsvrc", "ILSVRC", "percent"),
    Column("voc", "VOC", "percent"),
    Column("coco_50", "COCO at 0.5", "percent"),
    Column("coco", "COCO, 0.5 to 0.95", "percent"),
)


def detection_table(rows: Sequence[DetectionRow]) -> Table:
    """A row for every configuration."""
    return Table(
        "detection",
        f"Detection on {rows[0].images} images",
        _COLUMNS,
        tuple(
            (
                *_cells(each.configuration),
                each.proposals_per_image,
                each.coverage_percent,
                each.map_percent,
                0.0 if each.compared_to_base is None else each.compared_to_base,
                each.interval,
                each.images,
                each.passes,
            )
            for each in rows
        ),
        (
            "Coverage is the share of objects that a proposal overlaps by half or more; mAP is the mean average "
            "precision by ILSVRC's rule.",
            f"Intervals are of the difference to the first row, from {RESAMPLES} resamples of the images, the "
            "same for both.",
        ),
    )


def rules_table(rows: Sequence[DetectionRow]) -> Table:
    """Mean average precision by the rules of ILSVRC, VOC and COCO."""
    cells = tuple(
        (
            *_cells(each.configuration),
            each.map_percent,
            each.voc_percent,
            each.coco_50_percent,
            each.coco_percent,
        )
        for each in rows
    )
    return Table("average_precision_rules", "Mean average precision by other rules", _RULES, cells)


def class_table(rows: Sequence[DetectionRow], names: Sequence[str]) -> Table:
    """Average precision by class, a column for every configuration."""
    words = [[str(cell) for cell in _cells(each.configuration)] for each in rows]
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
        rows: of this run.
        data: what it was measured on, as a phrase.
    """
    best = max(rows, key=lambda each: each.map_percent)
    single = max((each for each in rows if each.configuration.models == 1), key=lambda each: each.map_percent)
    here = f"measured here, on {data}"
    challenge: list[tuple[Value, ...]] = [
        (each.team, str(each.year), each.place, each.map_percent, each.external_data, each.models, "the paper")
        for each in TABLE_4
    ]
    challenge.insert(
        sum(each.map_percent < best.map_percent for each in TABLE_4),
        ("this run", "", "", best.map_percent, "", str(best.configuration.models), here),
    )
    singles: list[tuple[Value, ...]] = [
        (each.team, each.map_percent, each.contextual_model, each.box_regression, "the paper") for each in TABLE_5
    ]
    singles.insert(
        sum(each.map_percent < single.map_percent for each in TABLE_5),
        ("this run", single.map_percent, "no", "no", here),
    )
    return [
        Table(
            "table4",
            "Table 4: detection",
            (
                Column("team", "team"),
                Column("year", "year"),
                Column("place", "place"),
                Column("map", "mAP", "percent"),
                Column("external_data", "external data"),
                Column("models", "models"),
                Column("source", "source"),
            ),
            tuple(challenge),
            ("Figures on other images cannot be compared.",),
        ),
        Table(
            "table5",
            "Table 5: detection with a single model",
            (
                Column("team", "team"),
                Column("map", "mAP", "percent"),
                Column("contextual_model", "contextual model"),
                Column("box_regression", "box regression"),
                Column("source", "source"),
            ),
            tuple(singles),
            (
                "Figures on other images cannot be compared.",
                "The paper's text says 40% for a single model where its Table 5 says 38.02%.",
            ),
        ),
    ]


def _cells(configuration: Configuration) -> tuple[str, int, str]:
    return configuration.proposals, configuration.models, configuration.classifier
