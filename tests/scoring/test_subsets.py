"""Subsets, greedy selection and diversity against numpy's own statistics and against searches by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from ensemble_eval.scoring.paired import paired_differences
from ensemble_eval.scoring.subset_ranks import all_subsets
from ensemble_eval.scoring.subsets import (
    diversity,
    ensemble_errors,
    greedy_selection,
    held_out_choice,
    one_model,
    recipe_errors,
    size_summaries,
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


def test_every_ensemble_is_compared_with_the_whole_and_those_without_one_member_among_themselves() -> None:
    subsets, wrong = all_subsets(3), random_wrong(7, 400)
    found = ensemble_errors(wrong, subsets, margin_points=1, seed=0)
    *others, whole = found.against_whole
    assert whole is None
    compared = [each for each in others if each is not None]
    assert [(each.base_wrong, each.other_wrong) for each in compared] == [
        (wrong[-1].sum(), each.sum()) for each in wrong[:-1]
    ]
    expected = multipletests([each.mcnemar_p for each in compared], method="fdr_by")[1]
    assert [each.adjusted_p for each in compared] == pytest.approx(list(expected))
    left = wrong[[subsets.index(each) for each in ((0, 1, 2), (1, 2), (0, 2), (0, 1))]]
    expected_left = paired_differences(left, [(0, 1), (0, 2), (0, 3)], margin_points=1, resamples=0)
    assert list(found.leave_one_out) == expected_left
    assert ensemble_errors(wrong[:1], subsets[:1], 1, 0).leave_one_out == ()


@pytest.mark.slow
def test_the_member_that_a_rule_chooses_flatters_itself_unless_it_is_cross_fitted() -> None:
    """Seven members of 30% error in 1,000 samples of 100 images, seed 5."""
    chosen, crossed = [], []
    for seed in range(1000):
        wrong = np.random.default_rng((5, seed)).random((7, 100)) < 0.3
        found = one_model(wrong, int(wrong.sum(axis=1).argmin()), held_out_choice(wrong, seed=seed))
        assert found.cross_fitted_error_percent is not None
        chosen.append(found.chosen_error_percent)
        crossed.append(found.cross_fitted_error_percent)
    assert np.mean(chosen) < 25
    assert np.mean(crossed) == pytest.approx(30, abs=0.5)
    assert held_out_choice(wrong[:, :4]) is None
    clusters = np.repeat(np.arange(20), 5)
    choice = held_out_choice(wrong, clusters=clusters)
    assert choice is not None
    assert all(len(set(each)) == 1 for each in choice.reshape(20, 5))


def test_the_interval_over_members_is_students_and_covers_the_mean_and_one_more() -> None:
    """10,000 recipes of six members each, whose errors on endless images are normal; seed 6."""
    wrong = random_wrong(5, 400)
    found, errors = recipe_errors(wrong), 100 * wrong.mean(axis=1)
    assert found.mean_interval_percent == pytest.approx(DescrStatsW(errors).tconfint_mean())
    rng = np.random.default_rng(6)
    sample, more = rng.normal(30, 2, (10_000, 6)), rng.normal(30, 2, 10_000)
    scale = (found.next_interval_percent[1] - found.mean_percent) / found.deviation_points
    assert scale == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(1 + 1 / 5))
    of_six = stats.t.ppf(0.975, 5) * sample.std(axis=1, ddof=1)
    distances = np.abs(sample.mean(axis=1) - 30), np.abs(sample.mean(axis=1) - more)
    assert np.mean(distances[0] <= of_six / math.sqrt(6)) == pytest.approx(0.95, abs=0.01)
    assert np.mean(distances[1] <= of_six * math.sqrt(1 + 1 / 6)) == pytest.approx(0.95, abs=0.01)


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


def test_two_folds_are_enough() -> None:
    wrong = random_wrong(7, 4)
    for folds in (2, 4):
        assert len(greedy_selection(wrong, all_subsets(3), folds=folds).cross_validated_error_percent) == 3
