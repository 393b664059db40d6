import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.scoring.metrics import best_rank, counted_of, label_rank, top_classes

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


@pytest.mark.parametrize(
    ("labels", "rank"),
    [
        ([2], 0),
        ([4, 2], 0),
        ([0], 1),
        # None of these counts, though class 1 has the highest score of all: as wrong as three classes allow.
        ([1], 3),
        ([1, 4], 3),
        ([5], 3),
    ],
)
def test_a_label_outside_the_counted_classes_is_as_wrong_as_can_be(labels: list[int], rank: int) -> None:
    scores = np.array([0.2, 0.4, 0.25, 0.05, 0.1, 0.0])
    assert best_rank(scores, labels, counted=np.array([0, 2, 3])) == rank


def test_more_than_five_counted_classes_leave_a_label_outside_them_wrong_at_top_5() -> None:
    scores = np.linspace(0.3, 0.1, 8)
    assert best_rank(scores, [7], counted=np.arange(7)) == 7
    assert best_rank(scores, [7]) == 7
    assert best_rank(scores, [6, 7], counted=np.arange(7)) == 6


def test_the_best_of_several_labels_counts() -> None:
    # By hand: class 1 is ahead of 2, and both of 0, which has the score of 3 and the lower index.
    scores = np.array([0.1, 0.5, 0.3, 0.1])
    assert best_rank(scores, [0, 2]) == best_rank(scores, [2, 3]) == 1
    assert best_rank(scores, [3, 0]) == 2
    assert best_rank(scores, [3, 2, 0], counted=np.array([0, 2, 3])) == 0
    assert best_rank(scores, [3, 0], counted=np.array([0, 2, 3])) == 1


def test_all_classes_count_but_for_a_scope_that_names_them() -> None:
    assert counted_of(Scope()) is None
    counted = counted_of(Scope(counted_classes=(0, 2, 5)))
    assert counted is not None
    assert counted.tolist() == [0, 2, 5]


def test_the_five_best_classes_are_given_unless_others_are_asked_for() -> None:
    scores = np.array([0.1, 0.3, 0.2, 0.0, 0.15, 0.05, 0.2])
    assert top_classes(scores).tolist() == [1, 2, 6, 4, 0]
    assert top_classes(scores, 2).tolist() == [1, 2]
