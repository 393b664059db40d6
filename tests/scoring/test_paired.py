"""Paired intervals and tests against statsmodels and SciPy, and against simulations."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from ensemble_eval.errors import InputError
from ensemble_eval.scoring.intervals import score_interval, score_statistic
from ensemble_eval.scoring.paired import (
    BOOTSTRAP_NEEDS_IMAGES,
    Adjustment,
    adjusted,
    bootstrap_intervals,
    equivalence_p_values,
    exact_mcnemar_p,
    paired_differences,
    pairs_with_first,
)

Wrong = NDArray[np.bool_]


def outcomes(both: int, fixed: int, broken: int, neither: int) -> Wrong:
    """bool [2, images], base and other."""
    cells = [both, fixed, broken, neither]
    return np.stack([np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)])


def likelihood_ratio_free_statistic(fixed: int, broken: int, images: int, difference: float) -> float:
    """The score statistic with the constrained maximum likelihood found by a search, not by a formula."""
    same = images - fixed - broken

    def minus_log_likelihood(share_fixed: float) -> float:
        shares = np.array([share_fixed, share_fixed + difference, 1 - 2 * share_fixed - difference])
        return -float(np.sum(np.array([fixed, broken, same]) * np.log(np.maximum(shares, 1e-300))))

    least, most = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = (2 * share + difference - difference**2) * images
    return float((broken - fixed - images * difference) / np.sqrt(variance))


@pytest.mark.parametrize("counts", [(2, 11, 100), (7, 3, 44), (1, 1, 2000), (40, 41, 90)])
@pytest.mark.parametrize("difference", [-0.2, -0.01, 0.005, 0.3])
def test_the_score_statistic_is_that_of_a_search_for_the_likeliest_shares(
    counts: tuple[int, int, int], difference: float
) -> None:
    expected = likelihood_ratio_free_statistic(*counts, difference)
    assert float(score_statistic(*counts, difference)) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_at_no_difference_the_score_statistic_is_the_root_of_mcnemars(fixed: int, broken: int, same: int) -> None:
    images = max(1, fixed + broken + same)
    if fixed + broken == 0:
        assert float(score_statistic(0, 0, images, 0.0)) == 0
        return
    expected = mcnemar([[0, fixed], [broken, 0]], exact=False, correction=False).statistic
    assert float(score_statistic(fixed, broken, images, 0.0)) ** 2 == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_the_score_interval_ends_where_the_statistic_is_two_standard_errors(
    fixed: int, broken: int, same: int
) -> None:
    images = max(1, fixed + broken + same)
    low, high = (float(bound) for bound in score_interval(fixed, broken, images))
    assert -1 <= low <= (broken - fixed) / images <= high <= 1
    z = stats.norm.ppf(0.975)
    for bound, expected in ((low, z), (high, -z)):
        if abs(bound) < 1:
            assert float(score_statistic(fixed, broken, images, bound)) == pytest.approx(expected, rel=1e-5)
    mirrored = [float(bound) for bound in score_interval(broken, fixed, images)]
    assert mirrored == pytest.approx([-high, -low], abs=1e-12)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 5), (9, 0), (150, 86), (2100, 1900)])
def test_mcnemar_is_the_exact_binomial_test(fixed: int, broken: int) -> None:
    expected = stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert exact_mcnemar_p(np.array([fixed]), np.array([broken])) == pytest.approx(expected, rel=1e-9)
    assert mcnemar([[0, fixed], [broken, 0]], exact=True).pvalue == pytest.approx(expected, rel=1e-9)


def test_equivalence_is_shown_exactly_where_the_interval_at_90_percent_lies_within_the_margin() -> None:
    rng = np.random.default_rng(0)
    fixed, broken = rng.integers(0, 12, 300), rng.integers(0, 12, 300)
    low, high = score_interval(fixed, broken, 1000, float(stats.norm.ppf(0.95)))
    within = (low > -0.005) & (high < 0.005)
    p = equivalence_p_values(fixed, broken, 1000, margin_points=0.5)
    assert within.any()
    assert not within.all()
    assert np.array_equal(p < 0.05, within)


def test_a_difference_of_just_the_margin_lies_within_it_at_an_even_chance() -> None:
    # 5 of 1000 images are half a point: the statistic is 0 there.
    counts = np.array([5, 0])
    assert equivalence_p_values(counts, counts[::-1], 1000, 0.5).tolist() == pytest.approx([0.5, 0.5])


def test_the_score_statistic_where_nothing_tells_two_rows_apart() -> None:
    # No image is fixed, so that the share of broken ones is the supposed 1%: -0.1 / sqrt(10 × 0.01 × 0.99).
    assert float(score_statistic(0, 0, 10, 0.01)) == pytest.approx(-0.3178209)


@pytest.mark.parametrize(
    ("counts", "verdict", "text"),
    [
        ((0, 30, 5, 965), "better", "better"),
        ((0, 5, 30, 965), "worse", "worse"),
        ((10, 2, 1, 9987), "equal", "equal within 0.5 points"),
        ((10, 40, 0, 49950), "better", "better, by less than 0.5 points"),
        ((10, 6, 3, 200), "cannot be told apart", "cannot be told apart"),
        # The exact test gives 2 × (1 + 11 + 55) / 2**11 = 0.065.
        ((0, 9, 2, 89), "cannot be told apart", "cannot be told apart"),
    ],
)
def test_a_verdict_says_no_more_than_its_tests(counts: tuple[int, ...], verdict: str, text: str) -> None:
    [found] = paired_differences(outcomes(*counts), [(0, 1)], resamples=0)
    assert (found.verdict, found.verdict_text) == (verdict, text)
    assert (found.base_wrong, found.other_wrong) == (counts[0] + counts[1], counts[0] + counts[2])
    assert (found.fixed, found.broken, found.images) == (counts[1], counts[2], sum(counts))
    assert found.adjusted_p == found.mcnemar_p


@pytest.mark.slow
def test_comparing_several_at_once_is_adjusted_for_by_adjusted() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(2000) < 0.1
    wrong = np.stack([truth ^ (rng.random(2000) < share) for share in (0.0, 0.004, 0.01, 0.03, 0.05)])
    for pairs in (pairs_with_first(5), list(itertools.combinations(range(5), 2))):
        found = paired_differences(wrong, pairs, resamples=0)
        assert [(each.base, each.other) for each in found] == pairs
        for raw, name in (("mcnemar_p", "adjusted_p"), ("equivalence_p", "adjusted_equivalence_p")):
            expected = multipletests([getattr(each, raw) for each in found], method="holm")[1]
            assert [getattr(each, name) for each in found] == pytest.approx(list(expected))
    # One that is significant alone is no longer so among ten.
    [alone] = paired_differences(outcomes(0, 9, 1, 990), [(0, 1)], resamples=0)
    unrelated = np.tile(outcomes(0, 9, 1, 990), (5, 1))
    among = paired_differences(unrelated, [(0, 1), *[(0, 2)] * 9], resamples=0)[0]
    assert (alone.verdict, among.verdict) == ("better", "cannot be told apart")


def test_adjustments_are_those_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).random(30) ** 4
    p_values[3:7] = p_values[8]
    theirs: dict[Adjustment, str] = {"holm": "holm", "bh": "fdr_bh", "by": "fdr_by"}
    for ours, name in theirs.items():
        for some in (p_values, p_values[:1], np.array([1.0, 0.0, 0.6])):
            assert adjusted(some, ours) == pytest.approx(list(multipletests(some, method=name)[1]), abs=1e-15)
        assert adjusted([], ours) == []


def test_the_bootstrap_is_scipys_of_the_differences_and_follows_its_multinomial_law() -> None:
    wrong = outcomes(30, 25, 10, 435)
    found = bootstrap_intervals(wrong, [(0, 1)], seed=3, resamples=4000)[0]
    # A resample's counts of fixed, broken and other images are multinomial.
    draws = np.random.default_rng(5).multinomial(500, [25 / 500, 10 / 500, 465 / 500], size=200_000)
    expected = np.percentile((draws[:, 1] - draws[:, 0]) / 500, [2.5, 97.5])
    assert found == pytest.approx(expected, abs=0.0025)
    scipys = stats.bootstrap(
        (wrong[1].astype(float) - wrong[0],),
        np.mean,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert found == pytest.approx(list(scipys), abs=1e-12)
    assert np.array_equal(found, bootstrap_intervals(wrong, [(0, 1)], seed=3, resamples=4000)[0])
    coarse = [bootstrap_intervals(wrong, [(0, 1)], seed=seed, resamples=99).tolist() for seed in range(4)]
    assert any(each != coarse[0] for each in coarse)


@pytest.mark.parametrize("counts", [(30, 25, 10, 435), (3, 4, 16, 77)])
def test_bounds_of_a_comparison_are_percentage_points(counts: tuple[int, int, int, int]) -> None:
    _, fixed, broken, _ = counts
    images = sum(counts)
    [found] = paired_differences(outcomes(*counts), [(0, 1)], seed=3, resamples=4000)
    assert found.difference_points == 100 * (broken - fixed) / images
    # Where the statistic that was found by a search is 1.96 standard errors.
    for bound, standard_errors in ((found.low_points, 1.96), (found.high_points, -1.96)):
        statistic = likelihood_ratio_free_statistic(fixed, broken, images, bound / 100)
        assert statistic == pytest.approx(standard_errors, abs=0.001)
    fractions = bootstrap_intervals(outcomes(*counts), [(0, 1)], seed=3, resamples=4000)[0]
    assert found.bootstrap_points == pytest.approx(tuple(100 * float(fraction) for fraction in fractions))


def test_the_bootstrap_is_left_out_where_it_covers_too_little() -> None:
    wrong = np.concatenate([outcomes(5, 5, 4, 486), outcomes(5, 6, 4, 485), np.zeros((2, 500), bool)])
    few, enough, none = paired_differences(wrong, [(0, 1), (2, 3), (4, 5)], resamples=100)
    assert few.fixed + few.broken == BOOTSTRAP_NEEDS_IMAGES - 1
    assert few.bootstrap_points is none.bootstrap_points is None
    assert enough.bootstrap_points is not None
    assert paired_differences(wrong, [(2, 3)], resamples=0)[0].bootstrap_points is None


# Shares of images that the other fixes and breaks, and how many images: as in Table 3 on a small set, with errors
# near zero, and two rows of equal errors.
REGIMES = {"ordinary": (0.05, 0.02, 400), "near zero": (0.002, 0.001, 1000), "even": (0.03, 0.03, 500)}


@pytest.mark.parametrize("regime", REGIMES)
def test_the_score_interval_covers_the_truth_93_to_97_times_in_100(regime: str) -> None:
    share_fixed, share_broken, images = REGIMES[regime]
    rng = np.random.default_rng(20)
    shares = [share_fixed, share_broken, 1 - share_fixed - share_broken]
    fixed, broken, _ = rng.multinomial(images, shares, size=2000).T
    low, high = score_interval(fixed, broken, images)
    truth = share_broken - share_fixed
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_the_bootstrap_covers_the_truth_93_to_97_times_in_100_where_it_is_given(regime: str) -> None:
    """Near zero, where it is not, it would cover less."""
    share_fixed, share_broken, images = REGIMES[regime]
    drawn = np.random.default_rng(20).random((2000, images))
    base, other = drawn < share_fixed, (drawn >= share_fixed) & (drawn < share_fixed + share_broken)
    pairs = [(row, 2000 + row) for row in range(2000)]
    low, high = bootstrap_intervals(np.concatenate([base, other]), pairs, resamples=500).T
    truth = share_broken - share_fixed
    covered = np.mean((low <= truth) & (truth <= high))
    assert (
        covered < 0.93
        if images * (share_fixed + share_broken) < BOOTSTRAP_NEEDS_IMAGES
        else 0.93 <= covered <= 0.97
    )


def test_what_cannot_be_compared_is_refused() -> None:
    wrong = outcomes(1, 1, 1, 1)
    for margin in (0, -1, 100, float("nan")):
        with pytest.raises(InputError, match="`margin` is more than 0 and less than 100 percentage points, not"):
            paired_differences(wrong, [(0, 1)], margin_points=margin)
    assert paired_differences(wrong, []) == []


@pytest.mark.slow
@pytest.mark.processes
def test_without_the_extra_one_sentence_names_it() -> None:
    code = (
        "import sys; import numpy as np\n"
        "from ensemble_eval.scoring.paired import exact_mcnemar_p\n"
        "assert 'scipy' not in sys.modules\n"
        "sys.modules['scipy'] = None\n"
        "exact_mcnemar_p(np.array([1]), np.array([2]))"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "scipy is not installed; run: pip install 'ensemble-eval[report]'" in failed.stderr
