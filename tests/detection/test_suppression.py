import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_eval.detection.regions import suppress
from ensemble_eval.scoring.average_precision import overlaps


def quadratic(boxes: NDArray[np.float64], scores: NDArray[np.float64], most_overlap: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        if all(overlaps(boxes[[index]], boxes[[other]])[0, 0] <= most_overlap for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most_overlap", [0.1, 0.3, 0.7])
def test_suppression_is_the_quadratic_one_equal_scores_included(seed: int, most_overlap: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 50, (60, 2))
    boxes = np.hstack([corner, corner + rng.integers(5, 40, (60, 2))]).astype(float)
    scores = np.round(rng.random(60), 1)
    kept = suppress(torch.from_numpy(boxes), torch.from_numpy(scores), most_overlap)
    assert kept.tolist() == quadratic(boxes, scores, most_overlap)


def test_nothing_is_left_of_nothing() -> None:
    assert suppress(torch.zeros(0, 4), torch.zeros(0), 0.3).tolist() == []
