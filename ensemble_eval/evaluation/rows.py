"""From one image's scores or decisions to its rows in `predictions/`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.engine.early_exit import ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, with_ensemble
from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.scoring.metrics import best_rank, top_classes


def prediction_rows(
    result: ImageScores,
    members: Sequence[str],
    *,
    with_scores: bool,
    labels: Sequence[int] | None = None,
    counted: NDArray[np.intp] | None = None,
) -> Iterator[dict[str, Any]]:
    """One row per member and scheme, and with several members one per scheme for their mean.

    Columns: `image, member, crops, label, rank, top5, top5_probability, scores`; the ensemble's own rows have
    the member name "ensemble". `scores` (float32 [classes]) is left out without `with_scores`; ranks and
    top-5 come from the float64 means in any case. The last row has `crop_ranks` besides, where the result does,
    in three columns `surface_ranks`, `group_ranks` and `rule_ranks`, each flat.

    Args:
        result: of an image.
        members: their names.
        with_scores: whether the scores are stored.
        labels: all that count as right, the best-ranked of which has the rank; none for an image without labels,
            whose label and rank are None. None for the result's own label.
        counted: the class indices that ranks and top-5 are among, ascending; None for all.
    """
    known = (result.label,) if labels is None else labels
    further = {} if labels is None else {"labels": list(labels)}
    for crops, by_member in result.mean_softmax.items():
        for name, scores in zip(_row_names(members), with_ensemble(by_member), strict=True):
            best = top_classes(scores) if counted is None else counted[top_classes(scores[counted])]
            row: dict[str, Any] = {
                "image": result.id,
                "member": name,
                "crops": crops,
                "label": known[0] if known else None,
                "rank": best_rank(scores, known, counted) if known else None,
                "top5": best.astype(np.int32),
                "top5_probability": scores[best].astype(np.float32),
                **further,
            }
            if with_scores:
                row["scores"] = scores.astype(np.float32)
            if result.crop_ranks is not None and (crops, name) == (
                max(result.mean_softmax),
                _row_names(members)[-1],
            ):
                ranks = result.crop_ranks
                row |= {
                    "surface_ranks": ranks.surface.ravel(),
                    "group_ranks": ranks.groups.ravel(),
                    "rule_ranks": ranks.rules.ravel(),
                }
            yield row


def decision_rows(
    result: ImageDecisions, members: Sequence[str], labels: Sequence[int] | None = None
) -> Iterator[dict[str, Any]]:
    """As `prediction_rows`, with the columns `image, member, crops, label, top5_correct, top1_correct`.

    Decisions that are not known are None.
    """
    names = _row_names(members)
    further = {} if labels is None else {"labels": list(labels)}
    for crops, decided in result.top_k.items():
        unknown: Sequence[bool | None] = [None] * len(names)
        outcomes = zip(names, decided.get(5, unknown), decided.get(1, unknown), strict=True)
        for name, top5, top1 in outcomes:
            yield {
                "image": result.id,
                "member": name,
                "crops": crops,
                "label": result.label,
                **further,
                "top5_correct": top5,
                "top1_correct": top1,
            }


def _row_names(members: Sequence[str]) -> list[str]:
    return [*members, ENSEMBLE_ROWS] if len(members) > 1 else list(members)
