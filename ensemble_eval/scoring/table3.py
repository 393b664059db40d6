"""Table 3 from stored predictions: rows of numbers, no text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.scoring.statistics import error_interval_percent, paired_difference_interval_percent

if TYPE_CHECKING:
    import pandas as pd

TOP_5 = 5


@dataclass(frozen=True)
class Row:
    """One configuration, as `table3.csv` writes it: errors, bounds and differences in percent.

    `compared_to_base` is negative when better than one model with one crop, and 0 for that base itself;
    `top5_low` and `top5_high` bound the top-5 error at 95%. The top-1 fields are None where a run that stops
    when decided was not asked for them.
    """

    models: int
    crops: int
    cost: int
    top5_error: float
    compared_to_base: float
    top1_error: float | None
    top5_wrong: int
    top1_wrong: int | None
    images: int
    top5_low: float
    top5_high: float


def one_model_member(predictions: "pd.DataFrame", members: Sequence[str]) -> str:
    """The member with the lowest one-crop top-1 error, ties to the first: the paper's one-model rows use it.

    Args:
        predictions: columns `member`, `crops`, and `rank` or `top1_correct`.
        members: names in the ensemble's order.
    """
    wrong = {name: _wrong(predictions, name, 1, k=1) for name in members}
    return min(members, key=lambda name: _count(wrong[name]))


def table3(
    predictions: "pd.DataFrame", members: Sequence[str], selections: Mapping[str, int] | None = None
) -> list[Row]:
    """The rows of Table 3: one model and all models, each with every scheme, models then crops ascending.

    Args:
        predictions: columns `image`, `member`, `crops`, and `rank` or the decisions `top5_correct` and
            `top1_correct`; rows for every image, member and scheme, and for more than one member those of the
            ensemble itself.
        members: names in the ensemble's order.
        selections: other rows than the paper's, in this order: how many models each name in the column
            `member` stands for. The base stays one model with the smallest scheme.

    Raises:
        ValueError: no predictions, or configurations that do not hold the same number of images.

    Example:
        >>> import pandas as pd
        >>> ranks = {("a", 1): [0, 7], ("a", 10): [0, 4], ("b", 1): [9, 9], ("b", 10): [0, 9]}
        >>> predictions = pd.DataFrame(
        ...     {"image": image, "member": member, "crops": crops, "rank": rank}
        ...     for (member, crops), by_image in ranks.items()
        ...     for image, rank in zip(("x.png", "y.png"), by_image)
        ... )
        >>> rows = table3(predictions, ["a", "b"], {"a": 1, "b": 1})
        >>> [(row.crops, row.top5_error, row.compared_to_base) for row in rows]
        [(1, 50.0, 0.0), (10, 0.0, -50.0), (1, 100.0, 50.0), (10, 50.0, 0.0)]
    """
    if predictions.empty:
        raise ValueError("no image was evaluated")
    first = one_model_member(predictions, members)
    if selections is None:
        selections = {first: 1, ENSEMBLE_ROWS: len(members)} if len(members) > 1 else {first: 1}
    schemes = sorted(int(crops) for crops in predictions["crops"].unique())
    wrong = {
        (name, crops): {k: _wrong(predictions, name, crops, k=k) for k in (TOP_5, 1)}
        for name in selections
        for crops in schemes
    }
    base = _wrong(predictions, first, schemes[0], k=TOP_5)
    if {len(by_k[TOP_5]) for by_k in wrong.values()} != {len(base)}:
        raise ValueError("some configurations lack images; the predictions are incomplete")
    return [
        _row(selections[name], crops, by_k[TOP_5], by_k[1], _percent(base))
        for (name, crops), by_k in wrong.items()
    ]


@dataclass(frozen=True)
class Gain:
    """How the largest configuration's top-5 error compares to the base's, on the same images.

    Attributes:
        difference: in percentage points, negative when better.
        low, high: its paired interval at 95%.
        relative: the difference as a share of the base's error, in percent; None if the base makes none.
    """

    difference: float
    low: float
    high: float
    relative: float | None


def gain(predictions: "pd.DataFrame", members: Sequence[str]) -> Gain:
    """Compare the last row of `table3` with its first, image by image.

    Args:
        predictions: complete, as for `table3`.
        members: names in the ensemble's order.
    """
    predictions = predictions.sort_values("image", kind="stable")
    schemes = predictions["crops"].unique()
    best = ENSEMBLE_ROWS if len(members) > 1 else members[0]
    first = one_model_member(predictions, members)
    base = _wrong(predictions, first, min(schemes), k=TOP_5).to_numpy(bool)
    largest = _wrong(predictions, best, max(schemes), k=TOP_5).to_numpy(bool)
    difference = 100 * float(largest.mean() - base.mean())
    low, high = paired_difference_interval_percent(base, largest)
    return Gain(difference, low, high, difference / float(base.mean()) if base.any() else None)


def _wrong(predictions: "pd.DataFrame", member: str, crops: int, *, k: int) -> "pd.Series[Any]":
    """Whether each image's label is not among the k best: bool, or object with None where it is not known."""
    rows = predictions[(predictions["member"] == member) & (predictions["crops"] == crops)]
    if "rank" in rows:
        return rows["rank"] >= k
    correct = rows[f"top{k}_correct"]
    return correct.eq(False).where(correct.notna(), None)


def _count(wrong: "pd.Series[Any]") -> int:
    if wrong.isna().any():
        raise ValueError("some decisions are missing; the predictions are incomplete")
    return int(wrong.astype(bool).sum())


def _percent(wrong: "pd.Series[Any]") -> float:
    return 100 * _count(wrong) / len(wrong)


def _row(
    models: int, crops: int, top5_wrong: "pd.Series[Any]", top1_wrong: "pd.Series[Any]", base_percent: float
) -> Row:
    images = len(top5_wrong)
    low, high = error_interval_percent(_count(top5_wrong), images)
    error = _percent(top5_wrong)
    knows_top1 = bool(top1_wrong.notna().all())
    return Row(
        models=models,
        crops=crops,
        cost=models * crops,
        top5_error=error,
        compared_to_base=error - base_percent,
        top1_error=_percent(top1_wrong) if knows_top1 else None,
        top5_wrong=_count(top5_wrong),
        top1_wrong=_count(top1_wrong) if knows_top1 else None,
        images=images,
        top5_low=low,
        top5_high=high,
    )
