"""Decisions before all passes are in, against what the passes to come can really do."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty_scores import KINDS, softmax_row
from numpy.typing import NDArray

from ensemble_eval.scoring.decisions import decided_top_k
from ensemble_eval.scoring.metrics import label_rank


def _decided(sums: list[float], label: int, remaining: float, k: int) -> bool | None:
    [decision] = decided_top_k(np.array([sums]), label, np.array([remaining]), k)
    return decision


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        # The label leads by 2 and by 3: 5 in all lift both rivals to it. By hand.
        (4.9, True),
        (5.1, None),
        (1000.0, None),
    ],
)
def test_the_label_is_in_once_lifting_its_strongest_rivals_takes_too_much(
    remaining: float, expected: bool | None
) -> None:
    assert _decided([5.0, 3.0, 2.0, 0.0], 0, remaining, k=2) is expected


@pytest.mark.parametrize(("remaining", "expected"), [(0.9, False), (1.1, None)])
def test_the_label_is_out_once_all_that_comes_leaves_it_below(remaining: float, expected: bool | None) -> None:
    assert _decided([3.0, 2.0, 4.0, 1.0], 3, remaining, k=3) is expected


def test_with_no_more_classes_than_k_the_label_is_always_in() -> None:
    assert _decided([0.0, 1.0], 0, 9.0, k=5) is True


def test_each_row_has_its_own_sums_and_remainder() -> None:
    sums = np.array([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    assert decided_top_k(sums, 0, np.array([1.0, 9.0, 1.0]), 1) == [True, None, False]


@st.composite
def _score_arrays(draw: st.DrawFn) -> NDArray[np.float32]:
    """Softmax vectors float32 [passes, classes] of the nasty kinds: one-hot, uniform, tied, nearly tied, any."""
    passes, classes = draw(st.integers(1, 24)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=passes, max_size=passes))
    rows = [softmax_row(kind, classes, rng) for kind in kinds]
    return np.array(rows, dtype=np.float32)


@settings(max_examples=400)
@given(_score_arrays(), st.integers(0, 8), st.sampled_from([1, 2, 5]))
def test_what_was_decided_early_is_what_all_passes_say(scores: NDArray[np.float32], label: int, k: int) -> None:
    label %= scores.shape[1]
    expected = label_rank(scores.astype(np.float64).sum(axis=0), label) < k
    sums = np.zeros((1, scores.shape[1]))
    for done, row in enumerate(scores, start=1):
        sums += row
        [decision] = decided_top_k(sums, label, np.array([float(len(scores) - done)]), k)
        assert decision in (None, expected)


@settings(max_examples=200)
@given(_score_arrays(), st.integers(0, 8), st.sampled_from([1, 5]), st.integers(1, 6))
def test_nothing_that_could_still_come_overturns_a_decision(
    scores: NDArray[np.float32], label: int, k: int, remaining: int
) -> None:
    """An adversary spends what remains on one class a pass, in every way there is, or on lifting k rivals."""
    classes = scores.shape[1]
    label %= classes
    sums = scores.astype(np.float64).sum(axis=0)
    [decision] = decided_top_k(sums[None], label, np.array([float(min(remaining, 3))]), k)
    if decision is None:
        return
    for spent in itertools.combinations_with_replacement(range(classes), min(remaining, 3)):
        total = sums + np.bincount(spent, minlength=classes)
        assert (label_rank(total, label) < k) is decision
    # All at once: the strongest rivals brought level with the label, or a hair above, as far as it reaches.
    for rivals in itertools.combinations([one for one in range(classes) if one != label], min(k, classes - 1)):
        lift = np.maximum(0, sums[label] + 1e-9 - sums[list(rivals)])
        total = sums.copy()
        total[list(rivals)] += lift * min(1.0, min(remaining, 3) / max(lift.sum(), 1e-300))
        assert (label_rank(total, label) < k) is decision


@given(st.integers(3, 9), st.sampled_from([1, 2]), st.floats(0.1, 50.0))
def test_a_decision_is_not_later_than_it_must_be(classes: int, k: int, lead: float) -> None:
    """With all rivals equal, a little more than k leads of mass would overturn the label, a little less not."""
    sums = np.zeros(classes)
    sums[0] = lead
    assert _decided(list(sums), 0, 0.99 * k * lead, k) is True
    assert _decided(list(sums), 0, 1.01 * k * lead, k) is None
