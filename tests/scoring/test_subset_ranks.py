"""Ranks in the means of all subsets against the means themselves, formed one by one."""

from itertools import combinations

import numpy as np
import pytest
from nasty_scores import KINDS, softmax_row
from numpy.typing import NDArray

from ensemble_eval.errors import UnavailableError
from ensemble_eval.scoring.metrics import label_rank
from ensemble_eval.scoring.subset_ranks import all_subsets, subset_ranks


def slow_subset_ranks(scores: NDArray[np.float32], labels: NDArray[np.intp]) -> NDArray[np.int32]:
    """As `computed_ranks` forms them."""
    rows = []
    for size in range(1, len(scores) + 1):
        for subset in combinations(range(len(scores)), size):
            mean = np.stack([scores[member] for member in subset]).mean(axis=0, dtype=np.float64)
            rows.append([label_rank(*pair) for pair in zip(mean, labels, strict=True)])
    return np.array(rows, np.int32)


def scores_of_kind(kind: str, members: int, images: int, classes: int) -> NDArray[np.float32]:
    rng = np.random.default_rng((len(kind), members, images, classes))
    rows = [softmax_row(kind, classes, rng) for _ in range(members * images)]
    return np.array(rows, np.float32).reshape(members, images, classes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("members", "classes"), [(1, 7), (2, 6), (5, 9), (7, 30), (9, 6)])
def test_ranks_are_those_of_the_means_bit_for_bit(kind: str, members: int, classes: int) -> None:
    scores = scores_of_kind(kind, members, 12, classes)
    labels = np.random.default_rng(3).integers(0, classes, 12)
    found = subset_ranks(scores, labels)
    assert found.dtype == np.int32
    assert np.array_equal(found, slow_subset_ranks(scores, labels))


def test_ranks_of_members_that_know_their_classes_are_those_of_the_means() -> None:
    """As real scores are: most classes are pruned, and some images are wrong in every subset."""
    rng, classes, images = np.random.default_rng(0), 200, 50
    labels = rng.integers(0, classes, images)
    logits = 2 * rng.normal(size=(1, images, classes)) + rng.normal(size=(7, images, classes))
    logits[:, np.arange(images), labels] += rng.normal(6, 5, images)
    powers = np.exp(logits)
    scores = (powers / powers.sum(axis=2, keepdims=True)).astype(np.float32)
    found = subset_ranks(scores, labels)
    assert np.array_equal(found, slow_subset_ranks(scores, labels))
    assert (found == 0).all(axis=0).any()
    assert (found >= 5).all(axis=0).any()


def test_members_of_different_kinds_and_equal_images_make_ties_that_the_lower_index_wins() -> None:
    scores = np.concatenate([scores_of_kind(kind, 1, 20, 8) for kind in "tutnt"])
    scores[3] = scores[0][:, ::-1]
    labels = np.arange(20) % 8
    assert np.array_equal(subset_ranks(scores, labels), slow_subset_ranks(scores, labels))


def test_neighbouring_float32_scores_are_never_rounded_to_a_tie() -> None:
    """What the pruning rests on: a class ahead by one bit in every member is ahead in every mean."""
    large, tiny = np.float32(0.99), np.float32(1e-30)
    above = np.nextafter([large, tiny], np.float32(1))
    row = np.array([[large, above[0]], [tiny, above[1]], [large, above[0]]], np.float32)[:, None]
    assert np.array_equal(subset_ranks(row, np.array([0])), np.ones((7, 1)))
    assert np.array_equal(subset_ranks(row, np.array([0])), slow_subset_ranks(row, np.array([0])))


def test_no_images_give_no_ranks() -> None:
    assert subset_ranks(np.empty((3, 0, 5), np.float32), np.empty(0, int)).shape == (7, 0)


def test_subsets_go_by_size_and_are_capped() -> None:
    assert len(all_subsets(7)) == 127
    assert all_subsets(2) == ((0,), (1,), (0, 1))
    with pytest.raises(UnavailableError, match="13 members have 8191 subsets; all subsets are formed of up to 12"):
        all_subsets(13)
