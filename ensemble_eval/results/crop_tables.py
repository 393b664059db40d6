"""What more crops bring, which views pay, and how averages compare: of a run that kept every rank."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import pandas as pd

from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.results.row_tables import tests_note
from ensemble_eval.scoring.table3 import TOP_1, TOP_5
from ensemble_eval.tables.table import Column, Table, shown, table_of

_KindT = TypeVar("_KindT")
_ERRORS = (TOP_5, TOP_1)
_PAIRED, _WILSON = "paired 95% interval", "95% interval"
_INTERVAL = Column("interval", "95% interval", "points interval")


def crop_tables(study: CropStudy, margin_points: float) -> list[Table]:
    """The surface, where more crops stop paying, the views that pay, and the averages.

    Args:
        study: of a run.
        margin_points: within which two errors count as equal.
    """
    return [
        _enough_table(study),
        _averaging_table(study, margin_points),
        _views_table(study),
        _surface_table(study),
    ]


def enough_sentence(study: CropStudy) -> str:
    """Where more crops stop paying, as a sentence with its interval.

    Args:
        study: of a run.
    """
    found = study.enough_crops(TOP_5)
    if found.crops == study.crops:
        return f"Up to the last of {study.crops} crops, more of them lower the top-5 error of all models."
    interval = shown((found.low_points, found.high_points), _INTERVAL)
    return (
        f"After the first {found.crops} crops no larger number of them is better for all models: all "
        f"{study.crops} change the top-5 error by {found.difference_points:+.2f} points, "
        f"paired 95% interval {interval}."
    )


def _enough_table(study: CropStudy) -> Table:
    return table_of(
        "enough_crops",
        "Where more crops stop paying, all models",
        [(f"top-{k}", study.enough_crops(k)) for k in _ERRORS],
        [
            ("error_of", "error of", "text", lambda at: at[0]),
            ("crops", "crops", "count", lambda at: at[1].crops),
            ("error", "error with so many", "percent", lambda at: at[1].error_percent),
            ("difference", "all crops change it by", "points", lambda at: at[1].difference_points),
            ("difference", _PAIRED, "points interval", lambda at: (at[1].low_points, at[1].high_points)),
        ],
        (
            "This is the smallest number after which no larger one is better by its paired interval at 95%. The "
            "intervals are not adjusted for how many are compared, so it is rather too large than too small.",
        ),
    )


def _averaging_table(study: CropStudy, margin_points: float) -> Table:
    rows = _records({k: study.averaging(k, margin=margin_points) for k in _ERRORS})
    return table_of(
        "averaging",
        f"Ways to average, all models with {study.crops} crops",
        rows,
        [
            ("error_of", "error of", "text", lambda row: row["error_of"]),
            ("rule", "rule", "text", lambda row: row["rule"]),
            ("error", "error", "percent", lambda row: row["error_percent"]),
            ("error", "95% interval", "percent interval", lambda row: (row["low_percent"], row["high_percent"])),
            ("fixed", "fixed", "count", lambda row: _known(row, "fixed", int)),
            ("broken", "broken", "count", lambda row: _known(row, "broken", int)),
            ("difference", "difference", "points", lambda row: _known(row, "difference_points", float)),
            ("difference", _PAIRED, "points interval", _paired_interval),
            ("adjusted_p", "adjusted p", "p", lambda row: _known(row, "adjusted_p", float)),
            ("verdict", "against the first", "text", lambda row: _known(row, "verdict", str) or "the paper's"),
        ],
        (
            "Every rule is compared with the mean of softmax outputs, image by image. The mean of logits decides "
            "as the geometric mean does.",
            tests_note(len(rows) // len(_ERRORS) - 1, margin_points),
        ),
    )


def _views_table(study: CropStudy) -> Table:
    return table_of(
        "views",
        "Which views pay, all models",
        _records({k: study.views(k) for k in _ERRORS}),
        [
            ("error_of", "error of", "text", lambda row: row["error_of"]),
            ("kind", "crops by", "text", lambda row: row["kind"]),
            ("name", "group", "text", lambda row: row["name"]),
            ("crops", "crops", "count", lambda row: row["crops"]),
            ("error_alone", "error with these alone", "percent", lambda row: row["error_alone_percent"]),
            ("error_without", "without these", "percent", lambda row: row["error_without_percent"]),
            ("without", "leaving them out costs", "points", lambda row: row["without_points"]),
            ("without", _PAIRED, "points interval", lambda row: (row["low_points"], row["high_points"])),
        ],
        ("A group pays where its interval lies above 0. Groups overlap, and the intervals are not adjusted.",),
    )


def _surface_table(study: CropStudy) -> Table:
    top5, top1 = (study.surface(k).to_dict("records") for k in _ERRORS)
    return table_of(
        "surface",
        "Every number of models and crops",
        zip(top5, top1, strict=True),
        [
            ("models", "models", "count", lambda both: both[0]["models"]),
            ("crops", "crops", "count", lambda both: both[0]["crops"]),
            ("cost", "cost", "count", lambda both: both[0]["cost"]),
            ("top5_error", "top-5 error", "percent", lambda both: both[0]["error_percent"]),
            ("top5", _WILSON, "percent interval", lambda both: (both[0]["low_percent"], both[0]["high_percent"])),
            ("top1_error", "top-1 error", "percent", lambda both: both[1]["error_percent"]),
            ("top1", _WILSON, "percent interval", lambda both: (both[1]["low_percent"], both[1]["high_percent"])),
        ],
        (
            "The first members of the ensemble with the first crops in the crop order. A row of Table 3 for one "
            "model has the member that the paper's rule names, which may be another than the first.",
        ),
    )


def _records(frames: Mapping[int, pd.DataFrame]) -> list[dict[Hashable, Any]]:
    """The rows of a frame for each top-k error, with the error's name."""
    return [{"error_of": f"top-{k}", **row} for k, frame in frames.items() for row in frame.to_dict("records")]


def _known(row: Mapping[Hashable, Any], name: str, kind: Callable[[Any], _KindT]) -> _KindT | None:
    """What a row says of its difference from the first; None in the first row itself."""
    return None if pd.isna(row[name]) else kind(row[name])


def _paired_interval(row: Mapping[Hashable, Any]) -> tuple[float, float] | None:
    low, high = row["difference_low_points"], row["difference_high_points"]
    return None if pd.isna(low) else (float(low), float(high))
