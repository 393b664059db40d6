"""From one image's scores to its rows in `predictions/`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.engine import ImageScores
from ensemble_eval.manifests import ENSEMBLE_ROWS
from ensemble_eval.metrics import label_rank, top_classes


def prediction_rows(result: ImageScores, members: Sequence[str], *, with_scores: bool) -> Iterator[dict[str, Any]]:
    """One row per member and scheme, and with several members one per scheme for their mean.

    Columns: `image, member, crops, label, rank, top5, top5_probability, scores`; the ensemble's own rows have
    the member name "ensemble". `scores` (float32 [classes]) is left out without `with_scores`; ranks and
    top-5 come from the float64 means in any case.
    """
    for crops, by_member in result.mean_softmax.items():
        for name, scores in _named_scores(by_member, members):
            best = top_classes(scores)
            row: dict[str, Any] = {
                "image": result.id,
                "member": name,
                "crops": crops,
                "label": result.label,
                "rank": label_rank(scores, result.label),
                "top5": best.astype(np.int32),
                "top5_probability": scores[best].astype(np.float32),
            }
            if with_scores:
                row["scores"] = scores.astype(np.float32)
            yield row


def _named_scores(
    by_member: NDArray[np.float64], members: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    yield from zip(members, by_member, strict=True)
    if len(members) > 1:
        yield ENSEMBLE_ROWS, by_member.mean(axis=0)
