"""Decisions before all passes are in, against what the passes to come can really do."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty_scores import KINDS, softmax_row
from numpy.typing import NDArray

from ensemble_eval.scoring.metrics import any_decided_top_k, decided_top_k, label_rank


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


SUMS = np.array([[5.0, 0.0, 3.0], [0.0, 5.0, 3.0], [2.0, 2.0, 1.0], [0.0, 0.0, 5.0]])


@pytest.mark.parametrize(
    ("labels", "counted", "expected"),
    [
        ([0, 1], None, [True, True, None, False]),
        ([0], None, [True, False, None, False]),
        # Among classes 0 and 2 the third row leads by 1 only, as much as may come.
        ([1, 0], [0, 2], [True, False, None, False]),
        ([1], [0, 2], [False] * 4),
        ([2], [0, 2], [False, True, None, True]),
    ],
)
def test_any_of_several_labels_that_count_decides(
    labels: list[int], counted: list[int] | None, expected: list[bool | None]
) -> None:
    among = None if counted is None else np.array(counted)
    assert any_decided_top_k(SUMS, labels, np.ones(4), 1, among) == expected


@st.composite
def _score_arrays(draw: st.DrawFn) -> NDArray[np.float32]:
    """Softmax vectors float32 [passes, classes] of the nasty kinds: one-hot, uniform, tied, nearly tied, any."""
    passes, classes = draw(st.integers(1, 24)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=passes, max_size=passes))
    rows = [softmax_row(kind, classes, rng) for kind in kinds]
    return np.array(rows, dtype=np.float32)


@pytest.mark.slow
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


@functools.cache
def _spent(units: int, classes: int) -> NDArray[np.float64]:
    """Every way float64 [ways, classes] to spend some units of mass on classes."""
    ways = itertools.combinations_with_replacement(range(classes), units)
    return np.array([np.bincount(way, minlength=classes) for way in ways], dtype=np.float64)


@pytest.mark.slow
@settings(max_examples=600)
@given(st.data(), st.integers(2, 5), st.integers(1, 3), st.sampled_from([3, 7]))
def test_decisions_are_those_of_every_way_to_spend_what_remains(
    data: st.DataObject, classes: int, k: int, remaining: int
) -> None:
    """None where ways differ, and not a pass longer; with rivals behind the label, level with it and ahead.

    In units of a quarter: sums are whole, so that three units beyond a whole number are enough to lift as many
    rivals a hair above the label, and the finer mass of the real thing can do no more.
    """
    sums = 4.0 * np.array(data.draw(st.lists(st.integers(0, 4), min_size=classes, max_size=classes)))
    label = data.draw(st.integers(0, classes - 1))
    outcomes = {label_rank(sums + spent, label) < k for spent in _spent(remaining, classes)}
    expected = None if len(outcomes) == 2 else outcomes.pop()
    assert _decided(list(sums / 4), label, remaining / 4, k) is expected


@pytest.mark.parametrize("remaining", [1.0, 143.0, 1000.0])
@pytest.mark.parametrize(
    ("sums", "label", "k", "gap"),
    [
        # What it takes to overturn is the gap; the label comes first, third, last.
        ([1.0, 0.0, 0.0], 0, 1, 1.0),
        ([2.0, 2.0, 0.0, 1.0], 3, 3, 1.0),
        ([2.0, 3.0, 1.0, 1.0], 2, 2, 1.0),
    ],
)
def test_a_decision_allows_for_rounding_and_for_no_more(
    sums: list[float], label: int, k: int, gap: float, remaining: float
) -> None:
    """A softmax in float32 adds up to 1 within a millionth; a decision waits for a hundred thousandth."""
    expected = label_rank(np.array(sums), label) < k
    for mass, decision in ((0.99998, expected), (0.999999, None), (1.00001, None)):
        scaled = [gap * remaining / mass * one for one in sums]
        assert _decided(scaled, label, remaining, k) is decision


@pytest.mark.parametrize(("lead", "expected"), [(1e-10, None), (1e-9, None), (1e-8, True)])
def test_sums_that_differ_by_the_order_of_addition_decide_nothing_even_when_all_is_in(
    lead: float, expected: bool | None
) -> None:
    """To the very bound: a rival that may come level may come first."""
    assert _decided([0.0, lead], 1, 0.0, 1) is expected
    assert _decided([lead, 0.0], 1, 0.0, 1) is (expected and False)
