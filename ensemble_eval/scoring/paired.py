"""The difference of two error rates over the same images, with its interval, its tests and a verdict.

A row is one classifier, such as a row of Table 3, with a right or wrong decision on each image. The interval and
the tests use the model of matched pairs. It counts the images that only the first row, only the second row, both
or neither gets wrong. SciPy (the extra `[report]`) is imported when it is used.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, needing_extra
from ensemble_eval.scoring.clusters import Clusters, cluster_sums, design_effects
from ensemble_eval.scoring.intervals import Counts, score_interval, score_statistic
from ensemble_eval.scoring.power import detectable_points

MARGIN_POINTS = 0.5
SIGNIFICANCE = 0.05
BOOTSTRAP_RESAMPLES = 2000
# With fewer fixed or broken images, 95% bootstrap intervals contain the true difference less than 93% of the time.
BOOTSTRAP_NEEDS_IMAGES = 10
# The memory of one batch of resamples, with an index of eight bytes for each image of a resample.
_BATCH_BYTES = 64 << 20

Verdict = Literal["better", "worse", "equal", "cannot be told apart"]
Adjustment = Literal["holm", "bh", "by"]
"""How p-values are adjusted: by the method of Holm, of Benjamini and Hochberg, or of Benjamini and Yekutieli."""


@dataclass(frozen=True)
class PairedDifference:
    """The difference between the error rates of two rows over the same images.

    Attributes:
        base, other: The two rows, as positions among the rows that were compared.
        images: The number of images.
        base_wrong, other_wrong: The number of images that each row gets wrong.
        fixed: The number of images that the base gets wrong and the other row gets right.
        broken: The number of images that the base has right and the other row wrong.
        difference_points: The error of the other row minus that of the base, in percentage points; negative is
            better.
        low_points, high_points: Tango's 95% score interval of the difference, in percentage points.
        bootstrap_points: The 95% percentile interval of a bootstrap over images, in percentage points. None
            without resamples, or if fewer than `BOOTSTRAP_NEEDS_IMAGES` images are fixed or broken, because it
            would be too narrow.
        mcnemar_p: The p-value of the exact McNemar test, whose null hypothesis is that fixed and broken images are
            equally likely. If images are in clusters, that of the exact sign-flip test over clusters.
        adjusted_p: `mcnemar_p` after the adjustment over all rows that were compared at once.
        margin_points: The margin of equivalence, in percentage points: error rates that differ by less count as
            equal.
        equivalence_p: The larger p-value of two one-sided score tests, whose null hypothesis is that the
            error rates differ by at least the margin.
        adjusted_equivalence_p: `equivalence_p` after the same adjustment.
        comparisons: The number of comparisons that were adjusted for.
        design_effect: How many images carry as much information as one independent image; 1 without clusters.
    """

    base: int
    other: int
    images: int
    base_wrong: int
    other_wrong: int
    fixed: int
    broken: int
    difference_points: float
    low_points: float
    high_points: float
    bootstrap_points: tuple[float, float] | None
    mcnemar_p: float
    adjusted_p: float
    margin_points: float
    equivalence_p: float
    adjusted_equivalence_p: float
    comparisons: int
    design_effect: float

    @property
    def is_different(self) -> bool:
        """Whether the adjusted McNemar test finds the two rows different at the 5% level."""
        return self.adjusted_p < SIGNIFICANCE

    @property
    def is_equal_within_margin(self) -> bool:
        """Whether the adjusted equivalence tests find the difference within the margin at the 5% level."""
        return self.adjusted_equivalence_p < SIGNIFICANCE

    @property
    def verdict(self) -> Verdict:
        """The conclusion that the tests support.

        If they support both a difference and equivalence within the margin, the verdict is the difference.
        """
        if self.is_different:
            return "better" if self.difference_points < 0 else "worse"
        return "equal" if self.is_equal_within_margin else "cannot be told apart"

    @property
    def verdict_text(self) -> str:
        """The verdict as a phrase, with the margin if the tests support equivalence."""
        if self.is_different:
            small = f", by less than {self.margin_points:g} points" if self.is_equal_within_margin else ""
            return f"{self.verdict}{small}"
        return f"equal within {self.margin_points:g} points" if self.is_equal_within_margin else self.verdict

    @cached_property
    def detectable_points(self) -> float | None:
        """The difference that this many images detect in 80% of cases, if the rows cannot be told apart.

        It rests on the share of images that one row alone gets wrong, not on the difference that was observed; see
        `scoring.power`. None for other verdicts, or if no difference is found that often.
        """
        if self.verdict != "cannot be told apart":
            return None
        share = (self.fixed + self.broken) / self.images
        return detectable_points(round(self.images / self.design_effect), share, self.comparisons)


def pairs_with_first(rows: int) -> list[tuple[int, int]]:
    """Pair the first row, as the base, with every other row.

    Args:
        rows: The number of rows.

    Example:
        >>> pairs_with_first(3)
        [(0, 1), (0, 2)]
    """
    return [(0, row) for row in range(1, rows)]


def paired_differences(
    wrong: NDArray[np.bool_],
    pairs: Sequence[tuple[int, int]],
    *,
    margin_points: float = MARGIN_POINTS,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
    clusters: Clusters = None,
    adjustment: Adjustment = "holm",
) -> list[PairedDifference]:
    """Compare rows over the same images, two at a time, and adjust the p-values for the number of comparisons.

    The interval is Tango's score interval (T. Tango, Statistics in Medicine 17, 1998). Equality within the margin
    is tested with two one-sided tests of the same statistic, and a difference with the exact McNemar test. The
    p-values of each of the two tests are adjusted over all `pairs`.

    With clusters, the first two take numbers of images divided by the design effect, and the exact test flips the
    sign of the difference of whole clusters. For clusters of one image, that is the exact McNemar test.

    Args:
        wrong: Boolean array [rows, images], of one image or more: whether a row is wrong on an image.
        pairs: The positions of the base and of the other row of each comparison.
        margin_points: The margin of equivalence, in percentage points: error rates that differ by less count as
            equal.
        seed: The seed of the bootstrap; the same seed gives the same interval.
        resamples: The number of resamples of the bootstrap; 0 for no bootstrap. With clusters there is none.
        clusters: The cluster of each image; None if images are independent.
        adjustment: How p-values are adjusted.

    Raises:
        InputError: The margin is not valid, or a package of the extra `[report]` is missing.

    Example:
        A second row that fixes nine of a hundred images and breaks none:

        >>> import numpy as np
        >>> wrong = np.zeros((2, 100), bool)
        >>> wrong[0, :9] = True
        >>> [difference] = paired_differences(wrong, [(0, 1)])
        >>> difference.fixed, difference.broken, difference.difference_points, difference.verdict
        (9, 0, -9.0, 'better')
        >>> round(difference.mcnemar_p, 4)
        0.0039
    """
    validate_margin(margin_points)
    if not pairs:
        return []
    images, resamples = wrong.shape[1], resamples if clusters is None else 0
    base, other = wrong[[pair[0] for pair in pairs]], wrong[[pair[1] for pair in pairs]]
    fixed, broken = (base & ~other).sum(axis=1), (other & ~base).sum(axis=1)
    moved = other.astype(np.int8) - base
    effect = design_effects(moved, clusters)
    counts = fixed / effect, broken / effect, images / effect
    low, high = score_interval(*counts)
    bootstrap = (100 * bootstrap_intervals(wrong, pairs, seed=seed, resamples=resamples)).tolist()
    p = exact_mcnemar_p(fixed, broken) if clusters is None else sign_flip_p(cluster_sums(moved, clusters))
    equivalence_p = equivalence_p_values(*counts, margin_points)
    adjusted_p, adjusted_equivalence_p = adjusted(p, adjustment), adjusted(equivalence_p, adjustment)
    enough = (fixed + broken >= BOOTSTRAP_NEEDS_IMAGES) & (resamples > 0)
    return [
        PairedDifference(
            *pair,
            images,
            int(base[index].sum()),
            int(other[index].sum()),
            int(fixed[index]),
            int(broken[index]),
            difference_points=100 * int(broken[index] - fixed[index]) / images,
            low_points=100 * float(low[index]),
            high_points=100 * float(high[index]),
            bootstrap_points=tuple(bootstrap[index]) if enough[index] else None,
            mcnemar_p=float(p[index]),
            adjusted_p=adjusted_p[index],
            margin_points=margin_points,
            equivalence_p=float(equivalence_p[index]),
            adjusted_equivalence_p=adjusted_equivalence_p[index],
            comparisons=len(pairs),
            design_effect=float(effect[index]),
        )
        for index, pair in enumerate(pairs)
    ]


def readjusted(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Adjust the p-values of some comparisons again, over these comparisons only, by Holm's method.

    Example:
        `readjusted([each for each in between if each.base == 0])`
    """
    adjusted_p = adjusted([each.mcnemar_p for each in differences])
    adjusted_equivalence_p = adjusted([each.equivalence_p for each in differences])
    return [
        replace(each, adjusted_p=p, adjusted_equivalence_p=equivalence_p, comparisons=len(differences))
        for each, p, equivalence_p in zip(differences, adjusted_p, adjusted_equivalence_p, strict=True)
    ]


def validate_margin(margin_points: float) -> None:
    """Refuse a margin that is not between 0 and 100 percentage points.

    Raises:
        InputError: The margin is 0 or less, or 100 or more.
    """
    if not 0 < margin_points < 100:
        raise InputError(f"`margin` is more than 0 and less than 100 percentage points, not {margin_points:g}")


def require_packages() -> None:
    """Check that the packages for the statistical tests are installed.

    Raises:
        InputError: A package is missing; the message names it and the extra to install.
    """
    with needing_extra("report"):
        for module in ("scipy.optimize", "scipy.stats"):
            importlib.import_module(module)


def exact_mcnemar_p(fixed: NDArray[np.integer], broken: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the two-sided p-value of the exact McNemar test of each pair; 1 if no image is fixed or broken.

    Example:
        >>> exact_mcnemar_p(np.array([1]), np.array([5]))
        array([0.21875])
    """
    with needing_extra("report"):
        from scipy.stats import binom

    return np.minimum(2 * binom.cdf(np.minimum(fixed, broken), fixed + broken, 0.5), 1)


def sign_flip_p(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the two-sided p-value of the exact permutation test that flips the signs of whole clusters.

    Its null hypothesis is that the two rows are exchangeable in each cluster. All sign flips are counted: those of
    clusters with equal sums are binomial, and the sums over these groups are convolved.

    Args:
        sums: [pairs, clusters]: the number of broken images minus that of fixed images in each cluster.

    Example:
        >>> sign_flip_p(np.array([[-1, 1, 1, 1, 1, 1], [5, -1, 0, 0, 0, 0]])).round(5)
        array([0.21875, 1.     ])
    """
    with needing_extra("report"):
        from scipy.stats import binom

    found = []
    for of_pair in sums:
        probabilities = np.ones(1)
        for size, count in zip(*np.unique(np.abs(of_pair[of_pair != 0]), return_counts=True), strict=True):
            steps = np.zeros(size * count + 1)
            steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
            probabilities = np.convolve(probabilities, steps)
        rarer = min(of_pair.clip(0).sum(), (-of_pair).clip(0).sum())
        found.append(min(2 * float(probabilities[: rarer + 1].sum()), 1.0))
    return np.array(found)


def equivalence_p_values(
    fixed: Counts, broken: Counts, images: Counts, margin_points: float
) -> NDArray[np.float64]:
    """Return the larger p-value of two one-sided score tests for each pair.

    The null hypothesis is that the error rates differ by at least the margin. The p-value is below 5% if and only
    if Tango's 90% score interval lies within the margin.

    Args:
        fixed, broken: Arrays [pairs]: the number of fixed and of broken images of each pair.
        images: The total number of images.
        margin_points: The margin of equivalence, in percentage points.
    """
    with needing_extra("report"):
        from scipy.stats import norm

    above = norm.sf(score_statistic(fixed, broken, images, -margin_points / 100))
    below = norm.cdf(score_statistic(fixed, broken, images, margin_points / 100))
    return np.maximum(above, below)


def adjusted(p_values: Sequence[float] | NDArray[np.float64], adjustment: Adjustment = "holm") -> list[float]:
    """Adjust p-values for multiple testing; the order is kept.

    Args:
        p_values: One for each test.
        adjustment: "holm" bounds the probability of any false rejection (S. Holm, 1979). "bh" bounds the expected
            share of false rejections among all, for independent tests (Y. Benjamini and Y. Hochberg, 1995), and
            "by" does for any tests (Y. Benjamini and D. Yekutieli, 2001).

    Example:
        >>> [round(p, 6) for p in adjusted([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    # Not `multipletests` of statsmodels: each call collects the garbage of the whole process, which takes 0.2
    # seconds.
    values = np.asarray(p_values, np.float64)
    if adjustment != "holm" and len(values):
        with needing_extra("report"):
            from scipy.stats import false_discovery_control

        found: list[float] = false_discovery_control(values, method=adjustment).tolist()
        return found
    order = values.argsort(kind="stable")
    ordered = np.empty_like(values)
    ordered[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return [float(p) for p in ordered]


def bootstrap_intervals(
    wrong: NDArray[np.bool_],
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> NDArray[np.float64]:
    """Compute 95% percentile intervals of differences of error rates, by resampling images with replacement.

    An image is drawn together with the outcomes of all rows, so all pairs share the same resamples. Memory use
    stays below about 100 MB for any number of images.

    Args:
        wrong, pairs, seed: As in `paired_differences`.
        resamples: The number of resamples; 0 gives NaN.

    Returns:
        float64 [pairs, 2]: the lower and the upper bound of each difference, as fractions.

    Raises:
        InputError: SciPy is not installed.
    """
    if not resamples or not len(pairs):
        return np.full((len(pairs), 2), np.nan)
    with needing_extra("report"):
        from scipy.stats import bootstrap

    # SciPy resamples the error rates of the rows, not of the pairs: there can be many more pairs than rows, and
    # the differences are cheap to compute.
    errors = bootstrap(
        (wrong.astype(np.int8),),
        lambda sample, axis: sample.mean(axis=axis, dtype=np.float64),
        n_resamples=resamples,
        batch=max(1, _BATCH_BYTES // (wrong.shape[1] * (8 + len(wrong)))),
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    differences = errors[[pair[1] for pair in pairs]] - errors[[pair[0] for pair in pairs]]
    return np.percentile(differences, [2.5, 97.5], axis=1).T
