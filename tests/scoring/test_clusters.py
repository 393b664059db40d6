"""Intervals and tests for images in clusters, against statsmodels, SciPy and simulations of near-duplicates."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS

from ensemble_eval.scoring.clusters import cluster_sums, design_effects
from ensemble_eval.scoring.intervals import Counts, error_interval_percent, score_interval
from ensemble_eval.scoring.paired import exact_mcnemar_p, paired_differences, sign_flip_p

RNG_SEED, SAMPLES = 40, 2000
# The number of clusters, images in each, and the shares of images that the other row fixes and breaks.
REGIMES = {"many pairs": (400, 2, 0.1, 0.1), "videos": (100, 5, 0.05, 0.02), "patients": (40, 10, 0.1, 0.1)}


def differences(clusters: NDArray[np.intp], fixed: float, broken: float) -> NDArray[np.int8]:
    """The differences -1, 0 or 1 of two rows [samples, images]; seven in ten images copy their cluster."""
    rng, shape = np.random.default_rng(RNG_SEED), (SAMPLES, len(clusters))
    of_cluster = rng.random((SAMPLES, clusters.max() + 1))[:, clusters]
    drawn = np.where(rng.random(shape) < 0.7, of_cluster, rng.random(shape))
    return np.where(drawn < fixed, -1, np.where(drawn < fixed + broken, 1, 0)).astype(np.int8)


def covered(fixed: Counts, broken: Counts, images: Counts, truth: float) -> float:
    low, high = score_interval(fixed, broken, images)
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_in_clusters_cover_93_to_97_times_in_100_where_those_without_cover_less_than_90(
    regime: str,
) -> None:
    """2,000 samples of seed 40."""
    count, size, share_fixed, share_broken = REGIMES[regime]
    clusters = np.repeat(np.arange(count), size)
    moved = differences(clusters, share_fixed, share_broken)
    fixed, broken = (moved < 0).sum(axis=1), (moved > 0).sum(axis=1)
    images, effect = np.full(SAMPLES, len(clusters)), design_effects(moved, clusters)
    truth = share_broken - share_fixed
    assert covered(fixed, broken, images, truth) < 0.9
    assert 0.93 <= covered(fixed / effect, broken / effect, images / effect, truth) <= 0.97
    effect = design_effects(moved < 0, clusters)
    alone = np.array([error_interval_percent(*each) for each in zip(fixed / effect, images / effect, strict=True)])
    assert 0.93 <= np.mean((alone[:, 0] <= 100 * share_fixed) & (100 * share_fixed <= alone[:, 1])) <= 0.97


@pytest.mark.slow
def test_with_20_clusters_the_interval_of_an_error_covers_less_and_still_far_more_than_without() -> None:
    clusters = np.repeat(np.arange(20), 25)
    wrong = differences(clusters, 0.1, 0.1) < 0
    effect, images = design_effects(wrong, clusters), np.full(SAMPLES, len(clusters))
    sums = wrong.sum(axis=1)
    coverage = []
    for divisor in (np.ones(SAMPLES), effect):
        pairs = zip(sums / divisor, images / divisor, strict=True)
        low, high = np.array([error_interval_percent(*each) for each in pairs]).T
        coverage.append(np.mean((low <= 10) & (high >= 10)))
    assert coverage[0] < 0.5
    assert 0.86 <= coverage[1] <= 0.93


@pytest.mark.slow
def test_the_sign_flip_test_holds_its_level_where_mcnemars_does_not() -> None:
    """Two rows of equal error; 2,000 samples of seed 40, so that 5% has a standard error of 0.5 points."""
    clusters = np.repeat(np.arange(60), 8)
    moved = differences(clusters, 0.05, 0.05)
    assert np.mean(exact_mcnemar_p((moved < 0).sum(axis=1), (moved > 0).sum(axis=1)) < 0.05) > 0.2
    assert np.mean(sign_flip_p(cluster_sums(moved, clusters)) < 0.05) <= 0.06


def test_the_design_effect_is_statsmodels_cluster_robust_variance() -> None:
    """But for its factor for degrees of freedom, and for ours."""
    rng = np.random.default_rng(2)
    clusters = np.sort(rng.integers(0, 30, 200))
    wrong = (rng.random(30) < 0.4)[clusters] ^ (rng.random(200) < 0.1)
    fit = OLS(wrong.astype(float), np.ones(200)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
    )
    ours = design_effects(wrong, clusters) / (stats.t.ppf(0.975, 29) / stats.norm.ppf(0.975)) ** 2
    assert ours * wrong.var() / 200 == pytest.approx(fit.cov_params()[0, 0], rel=1e-9)
    order = rng.permutation(200)
    assert design_effects(wrong[order], clusters[order]) == pytest.approx(float(design_effects(wrong, clusters)))


def test_few_clusters_with_wrong_images_count_as_one_image_each() -> None:
    clusters, wrong = np.repeat(np.arange(50), 4), np.zeros(200, bool)
    wrong[::40] = True
    assert design_effects(wrong, clusters) == pytest.approx(4 * (stats.t.ppf(0.975, 49) / 1.959964) ** 2, rel=1e-6)


@pytest.mark.parametrize(
    "sums", [[3, -1, 2, 2, -2, 1, 0, 4], [1, 1, 1, -1, 1, 1], [0, 0], [-5, -4, -3, -2, -2, -1]]
)
def test_the_sign_flip_test_counts_all_flips(sums: list[int]) -> None:
    flips = np.array(list(itertools.product([-1, 1], repeat=len(sums)))) @ sums
    expected = np.mean(np.abs(flips) >= abs(sum(sums)))
    assert sign_flip_p(np.array([sums])) == pytest.approx([expected])
    scipys = stats.permutation_test((np.array(sums),), np.sum, permutation_type="samples", n_resamples=10**6)
    assert scipys.pvalue == pytest.approx(expected)


@pytest.mark.slow
def test_clusters_of_one_image_change_nothing_but_the_bootstrap() -> None:
    rng = np.random.default_rng(4)
    wrong = rng.random((3, 20_000)) < [[0.05], [0.06], [0.05]]
    pairs = [(0, 1), (0, 2)]
    for alone, clustered in zip(
        paired_differences(wrong, pairs),
        paired_differences(wrong, pairs, clusters=rng.permutation(20_000)),
        strict=True,
    ):
        assert clustered.bootstrap_points is None
        assert clustered.mcnemar_p == pytest.approx(alone.mcnemar_p, rel=1e-9)
        assert clustered.verdict_text == alone.verdict_text
        # The variance between clusters divides by their number less one.
        assert clustered.low_points == pytest.approx(alone.low_points, abs=0.003)
