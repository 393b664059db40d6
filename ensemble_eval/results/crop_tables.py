"""What more crops bring, which views pay, and how averages compare: of a run that kept every rank."""

from collections.abc import Sequence

from ensemble_eval.results.crop_study import CropStudy, EnoughCrops
from ensemble_eval.results.decisions import TOP_1, TOP_5
from ensemble_eval.results.row_tables import tests_note
from ensemble_eval.tables.table import Column, Table, shown

_ERRORS = (TOP_5, TOP_1)
_INTERVAL = Column("interval", "95% interval", "points interval")


def crop_tables(study: CropStudy, margin_points: float) -> list[Table]:
    """The surface, where more crops stop paying, the views that pay, and the averages.

    Args:
        study: of a run.
        margin_points: within which two errors count as equal.
    """
    return [
        _enough_table([study.enough_crops(k) for k in _ERRORS]),
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


def _enough_table(found: Sequence[EnoughCrops]) -> Table:
    return Table(
        "enough_crops",
        "Where more crops stop paying, all models",
        (
            Column("error_of", "error of"),
            Column("crops", "crops", "count"),
            Column("error", "error with so many", "percent"),
            Column("difference", "all crops change it by", "points"),
            Column("difference", "paired 95% interval", "points interval"),
        ),
        tuple(
            (
                f"top-{k}",
                each.crops,
                each.error_percent,
                each.difference_points,
                (each.low_points, each.high_points),
            )
            for k, each in zip(_ERRORS, found, strict=True)
        ),
        (
            "This is the smallest number after which no larger one is better by its paired interval at 95%. The "
            "intervals are not adjusted for how many are compared, so it is rather too large than too small.",
        ),
    )


def _averaging_table(study: CropStudy, margin_points: float) -> Table:
    rows = []
    for k in _ERRORS:
        for row in study.averaging(k, margin=margin_points).to_dict("records"):
            first = row["verdict"] is None or row["verdict"] != row["verdict"]
            rows.append(
                (
                    f"top-{k}",
                    str(row["rule"]),
                    float(row["error_percent"]),
                    (float(row["low_percent"]), float(row["high_percent"])),
                    None if first else int(row["fixed"]),
                    None if first else int(row["broken"]),
                    None if first else float(row["difference_points"]),
                    None if first else (float(row["difference_low_points"]), float(row["difference_high_points"])),
                    None if first else float(row["adjusted_p"]),
                    "the paper's" if first else str(row["verdict"]),
                )
            )
    return Table(
        "averaging",
        f"Ways to average, all models with {study.crops} crops",
        (
            Column("error_of", "error of"),
            Column("rule", "rule"),
            Column("error", "error", "percent"),
            Column("error", "95% interval", "percent interval"),
            Column("fixed", "fixed", "count"),
            Column("broken", "broken", "count"),
            Column("difference", "difference", "points"),
            Column("difference", "paired 95% interval", "points interval"),
            Column("adjusted_p", "adjusted p", "p"),
            Column("verdict", "against the first"),
        ),
        tuple(rows),
        (
            "Every rule is compared with the mean of softmax outputs, image by image. The mean of logits decides "
            "as the geometric mean does.",
            tests_note(len(rows) // len(_ERRORS) - 1, margin_points),
        ),
    )


def _views_table(study: CropStudy) -> Table:
    return Table(
        "views",
        "Which views pay, all models",
        (
            Column("error_of", "error of"),
            Column("kind", "crops by"),
            Column("name", "group"),
            Column("crops", "crops", "count"),
            Column("error_alone", "error with these alone", "percent"),
            Column("error_without", "without these", "percent"),
            Column("without", "leaving them out costs", "points"),
            Column("without", "paired 95% interval", "points interval"),
        ),
        tuple(
            (
                f"top-{k}",
                str(row["kind"]),
                str(row["name"]),
                int(row["crops"]),
                float(row["error_alone_percent"]),
                float(row["error_without_percent"]),
                float(row["without_points"]),
                (float(row["low_points"]), float(row["high_points"])),
            )
            for k in _ERRORS
            for row in study.views(k).to_dict("records")
        ),
        ("A group pays where its interval lies above 0. Groups overlap, and the intervals are not adjusted.",),
    )


def _surface_table(study: CropStudy) -> Table:
    top5, top1 = (study.surface(k).to_dict("records") for k in _ERRORS)
    return Table(
        "surface",
        "Every number of models and crops",
        (
            Column("models", "models", "count"),
            Column("crops", "crops", "count"),
            Column("cost", "cost", "count"),
            Column("top5_error", "top-5 error", "percent"),
            Column("top5", "95% interval", "percent interval"),
            Column("top1_error", "top-1 error", "percent"),
            Column("top1", "95% interval", "percent interval"),
        ),
        tuple(
            (
                int(five["models"]),
                int(five["crops"]),
                int(five["cost"]),
                float(five["error_percent"]),
                (float(five["low_percent"]), float(five["high_percent"])),
                float(one["error_percent"]),
                (float(one["low_percent"]), float(one["high_percent"])),
            )
            for five, one in zip(top5, top1, strict=True)
        ),
        (
            "The first members of the ensemble with the first crops in the crop order. A row of Table 3 for one "
            "model has the member that the paper's rule names, which may be another than the first.",
        ),
    )
