import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_eval.scoring.metrics import label_rank, top_classes

# Few different values, so that ties are common.
SCORES = st.lists(st.sampled_from([0.0, -0.0, 0.125, 0.25, 0.5, -1.0]), min_size=1, max_size=12)


def _literal_rank(scores: list[float], label: int) -> int:
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return order.index(label)


@given(SCORES, st.data())
def test_rank_and_top_classes_follow_the_literal_order(scores: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(scores) - 1))
    array = np.array(scores)
    rank = label_rank(array, label)
    assert rank == _literal_rank(scores, label)
    best = top_classes(array, 5)
    assert list(best) == sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:5]
    assert (label in best) == (rank < 5)


@pytest.mark.parametrize(
    ("scores", "label", "rank"),
    [
        ([0.1, 0.7, 0.2], 1, 0),
        ([0.1, 0.7, 0.2], 0, 2),
        ([0.5, 0.5], 0, 0),
        ([0.5, 0.5], 1, 1),
        ([0.2] * 6, 5, 5),
        ([0.2, 0.9, 0.2, 0.2], 2, 2),
    ],
)
def test_rank_of_the_label_with_ties(scores: list[float], label: int, rank: int) -> None:
    assert label_rank(np.array(scores), label) == rank
    assert label_rank(np.array(scores, np.float32), label) == rank


@given(SCORES, st.data())
def test_nan_never_counts_as_right(scores: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(scores) - 1))
    scores[data.draw(st.integers(0, len(scores) - 1))] = float("nan")
    assert label_rank(np.array(scores), label) == len(scores)
