"""Table 3 from stored predictions: rows of numbers, no text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble_eval.manifests import ENSEMBLE_ROWS
from ensemble_eval.metrics import error_interval_percent, paired_difference_interval_percent

TOP_5 = 5


@dataclass(frozen=True)
class Row:
    """One configuration, as `table3.csv` writes it: errors, bounds and differences in percent.

    `compared_to_base` is negative when better than one model with one crop, and 0 for that base itself;
    `top5_low` and `top5_high` bound the top-5 error at 95%.
    """

    models: int
    crops: int
    cost: int
    top5_error: float
    compared_to_base: float
    top1_error: float
    top5_wrong: int
    top1_wrong: int
    images: int
    top5_low: float
    top5_high: float


def one_model_member(predictions: pd.DataFrame, members: Sequence[str]) -> str:
    """The member with the lowest one-crop top-1 error, ties to the first: the paper's one-model rows use it.

    Args:
        predictions: columns `member`, `crops`, `rank`.
        members: names in the ensemble's order.
    """
    one_crop = predictions[predictions["crops"] == 1]
    wrong = (one_crop["rank"] >= 1).groupby(one_crop["member"]).sum()
    return min(members, key=lambda name: int(wrong[name]))


def table3(predictions: pd.DataFrame, members: Sequence[str]) -> list[Row]:
    """The rows of Table 3: one model and all models, each with every scheme, models then crops ascending.

    Args:
        predictions: columns `image`, `member`, `crops`, `rank`; rows for every image, member and scheme, and
            for more than one member those of the ensemble itself.
        members: names in the ensemble's order.

    Raises:
        ValueError: no predictions, or configurations that do not hold the same number of images.
    """
    if predictions.empty:
        raise ValueError("no image was evaluated")
    selections = [(1, one_model_member(predictions, members))]
    if len(members) > 1:
        selections.append((len(members), ENSEMBLE_ROWS))
    schemes = sorted(int(crops) for crops in predictions["crops"].unique())
    ranks = {(models, crops): _ranks(predictions, name, crops) for models, name in selections for crops in schemes}
    if len({len(values) for values in ranks.values()}) != 1:
        raise ValueError("some configurations lack images; the predictions are incomplete")
    base = _error_percent(ranks[1, schemes[0]], TOP_5)
    return [_row(models, crops, values, base) for (models, crops), values in ranks.items()]


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


def gain(predictions: pd.DataFrame, members: Sequence[str]) -> Gain:
    """Compare the last row of `table3` with its first, image by image.

    Args:
        predictions: complete, as for `table3`.
        members: names in the ensemble's order.
    """
    predictions = predictions.sort_values("image", kind="stable")
    schemes = predictions["crops"].unique()
    best = ENSEMBLE_ROWS if len(members) > 1 else members[0]
    base = _ranks(predictions, one_model_member(predictions, members), min(schemes)) >= TOP_5
    largest = _ranks(predictions, best, max(schemes)) >= TOP_5
    difference = 100 * float(largest.mean() - base.mean())
    low, high = paired_difference_interval_percent(base, largest)
    return Gain(difference, low, high, difference / float(base.mean()) if base.any() else None)


def _ranks(predictions: pd.DataFrame, member: str, crops: int) -> NDArray[np.int64]:
    rows = predictions[(predictions["member"] == member) & (predictions["crops"] == crops)]
    return rows["rank"].to_numpy(np.int64)


def _error_percent(ranks: NDArray[np.int64], k: int) -> float:
    return 100 * int(np.count_nonzero(ranks >= k)) / len(ranks)


def _row(models: int, crops: int, ranks: NDArray[np.int64], base_percent: float) -> Row:
    images = len(ranks)
    top5_wrong = int(np.count_nonzero(ranks >= TOP_5))
    low, high = error_interval_percent(top5_wrong, images)
    error = _error_percent(ranks, TOP_5)
    return Row(
        models=models,
        crops=crops,
        cost=models * crops,
        top5_error=error,
        compared_to_base=error - base_percent,
        top1_error=_error_percent(ranks, 1),
        top5_wrong=top5_wrong,
        top1_wrong=int(np.count_nonzero(ranks >= 1)),
        images=images,
        top5_low=low,
        top5_high=high,
    )
