"""Subsets, greedy selection and diversity against numpy's own statistics and against searches by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.scoring.subset_ranks import all_subsets
from ensemble_eval.scoring.subsets import (
    diversity,
    greedy_selection,
    one_model,
    size_summaries,
    without_one,
)


def random_wrong(rows: int, images: int, seed: int = 0) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.1, 0.5, (rows, 1))
    return rng.random((rows, images)) < shares


def test_each_size_has_its_mean_spread_best_and_worst() -> None:
    subsets = all_subsets(4)
    wrong = random_wrong(len(subsets), 60)
    for found in size_summaries(wrong, subsets):
        errors = {
            subset: 100 * wrong[row].mean() for row, subset in enumerate(subsets) if len(subset) == found.size
        }
        assert found.subsets == len(errors)
        assert found.mean_error_percent == pytest.approx(np.mean(list(errors.values())))
        assert found.spread_points == pytest.approx(np.std(list(errors.values())))
        assert errors[found.best] == pytest.approx(min(errors.values())) == found.best_error_percent
        assert errors[found.worst] == pytest.approx(max(errors.values())) == found.worst_error_percent


def greedy_by_hand(wrong: NDArray[np.bool_], members: int) -> tuple[int, ...]:
    rows = {frozenset(subset): wrong[row] for row, subset in enumerate(all_subsets(members))}
    order: list[int] = []
    while len(order) < members:
        errors = [(rows[frozenset([*order, each])].mean(), each) for each in range(members) if each not in order]
        order.append(min(errors)[1])
    return tuple(order)


def test_greedy_selection_is_scored_on_images_that_did_not_select() -> None:
    subsets, images = all_subsets(4), 53
    wrong = np.random.default_rng(2).random((len(subsets), images)) < 0.3
    found = greedy_selection(wrong, subsets, folds=3, seed=7)
    assert found.order == greedy_by_hand(wrong, 4)
    rows = {subset: wrong[row] for row, subset in enumerate(subsets)}
    in_sample = [100 * rows[tuple(sorted(found.order[:size]))].mean() for size in range(1, 5)]
    assert found.in_sample_error_percent == pytest.approx(in_sample)
    fold_of = np.random.default_rng(7).permutation(images) % 3
    held_out = np.zeros(4)
    for fold in range(3):
        order = greedy_by_hand(wrong[:, fold_of != fold], 4)
        for size in range(1, 5):
            held_out[size - 1] += rows[tuple(sorted(order[:size]))][fold_of == fold].sum()
    assert found.cross_validated_error_percent == pytest.approx(100 * held_out / images)
    # All members are all members, whoever selected them.
    assert found.cross_validated_error_percent[-1] == pytest.approx(found.in_sample_error_percent[-1])
    other = greedy_selection(wrong, subsets, folds=3, seed=8)
    assert other.cross_validated_error_percent != found.cross_validated_error_percent


def test_cross_validated_selection_does_not_flatter_itself() -> None:
    """Members that are wrong at random, all alike: the selected one is no better on other images."""
    subsets, in_sample, crossed = all_subsets(6), list[float](), list[float]()
    for seed in range(40):
        wrong = np.random.default_rng(seed).random((len(subsets), 60)) < 0.3
        found = greedy_selection(wrong, subsets, seed=seed)
        in_sample.append(found.in_sample_error_percent[0])
        crossed.append(found.cross_validated_error_percent[0])
    assert np.mean(in_sample) < 25
    assert np.mean(crossed) == pytest.approx(30, abs=2)


def test_equal_members_are_taken_in_their_order() -> None:
    subsets = all_subsets(3)
    assert greedy_selection(np.zeros((7, 10), bool), subsets).order == (0, 1, 2)


def test_the_whole_and_what_is_left_without_each_member() -> None:
    subsets = all_subsets(3)
    wrong = random_wrong(7, 20)
    expected = wrong[[subsets.index(each) for each in ((0, 1, 2), (1, 2), (0, 2), (0, 1))]]
    assert np.array_equal(without_one(wrong, subsets), expected)
    assert np.array_equal(without_one(wrong[:1], subsets[:1]), wrong[:1])


def test_diversity_is_numpys_correlation_and_counts_by_hand() -> None:
    wrong = np.concatenate([random_wrong(3, 400, seed=4), np.zeros((1, 400), bool)])
    found = {(each.one, each.other): each for each in diversity(wrong)}
    assert list(found) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        pair = found[one, other]
        assert pair.disagreement_percent == pytest.approx(100 * np.mean(wrong[one] != wrong[other]))
        assert pair.both_wrong_percent == pytest.approx(100 * np.mean(wrong[one] & wrong[other]))
        assert pair.error_correlation == pytest.approx(np.corrcoef(wrong[one], wrong[other])[0, 1])
    assert found[0, 3].error_correlation is None


def test_one_model_by_three_rules() -> None:
    wrong = random_wrong(4, 50)
    errors = 100 * wrong.mean(axis=1)
    found = one_model(wrong, chosen=2)
    assert (found.chosen_error_percent, found.first_error_percent) == pytest.approx((errors[2], errors[0]))
    assert found.mean_error_percent == pytest.approx(errors.mean())
    assert found.spread_points == pytest.approx(math.sqrt(np.mean((errors - errors.mean()) ** 2)))
    single = [(member,) for member in range(4)]
    assert found.spread_points == size_summaries(wrong, single)[0].spread_points
    assert found.range_percent == pytest.approx((errors.min(), errors.max()))
    assert one_model(wrong[:1], 0).spread_points == 0


def test_two_folds_are_enough_and_one_is_too_few() -> None:
    wrong = random_wrong(7, 4)
    for folds in (2, 4):
        assert len(greedy_selection(wrong, all_subsets(3), folds=folds).cross_validated_error_percent) == 3
    with pytest.raises(InputError, match="4 images cannot be dealt into 1 folds"):
        greedy_selection(wrong, all_subsets(3), folds=1)


def test_too_few_images_for_the_folds_are_refused() -> None:
    with pytest.raises(InputError, match="4 images cannot be dealt into 5 folds; choose `folds` from 2 to 4"):
        greedy_selection(np.zeros((7, 4), bool), all_subsets(3))
