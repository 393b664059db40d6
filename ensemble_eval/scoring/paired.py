"""The difference of two error rates over the same images, with its interval, its tests and a verdict.

A row is one classifier, such as a row of Table 3, with a right or wrong decision on each image. The interval and
the tests use the model of matched pairs. It counts the images that only the first row, only the second row, both
or neither gets wrong. SciPy and statsmodels (the extra `[report]`) are imported when they are used.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError, needing_extra
from ensemble_eval.scoring.intervals import score_interval, score_statistic

MARGIN_POINTS = 0.5
SIGNIFICANCE = 0.05
BOOTSTRAP_RESAMPLES = 2000
# With fewer fixed or broken images, 95% bootstrap intervals contain the true difference less than 93% of the time.
BOOTSTRAP_NEEDS_IMAGES = 10
# The memory of one batch of resamples, with an index of eight bytes for each image of a resample.
_BATCH_BYTES = 64 << 20

Verdict = Literal["better", "worse", "equal", "cannot be told apart"]


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
            equally likely.
        adjusted_p: `mcnemar_p` after Holm's adjustment over all rows that were compared at once.
        margin_points: The margin of equivalence, in percentage points: error rates that differ by less count as
            equal.
        equivalence_p: The larger p-value of two one-sided score tests, whose null hypothesis is that the
            error rates differ by at least the margin.
        adjusted_equivalence_p: `equivalence_p` after Holm's adjustment.
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
) -> list[PairedDifference]:
    """Compare rows over the same images, two at a time, and adjust the p-values for the number of comparisons.

    The interval is Tango's score interval (T. Tango, Statistics in Medicine 17, 1998). Equality within the margin
    is tested with two one-sided tests of the same statistic, and a difference with the exact McNemar test. Holm's
    method adjusts the p-values of each of the two tests over all `pairs`.

    Args:
        wrong: Boolean array [rows, images]: whether a row is wrong on an image.
        pairs: The positions of the base and of the other row of each comparison.
        margin_points: The margin of equivalence, in percentage points: error rates that differ by less count as
            equal.
        seed: The seed of the bootstrap; the same seed gives the same interval.
        resamples: The number of resamples of the bootstrap; 0 for no bootstrap.

    Raises:
        InputError: There are no images, the margin is not valid, or a package of the extra `[report]` is missing.

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
    if not wrong.shape[1]:
        raise InputError("there are no images to compare")
    if not pairs:
        return []
    images = wrong.shape[1]
    base, other = wrong[[pair[0] for pair in pairs]], wrong[[pair[1] for pair in pairs]]
    fixed, broken = (base & ~other).sum(axis=1), (other & ~base).sum(axis=1)
    low, high = score_interval(fixed, broken, images)
    bootstrap = (100 * bootstrap_intervals(wrong, pairs, seed=seed, resamples=resamples)).tolist()
    p = [exact_mcnemar_p(*counts) for counts in zip(fixed, broken, strict=True)]
    equivalence_p = equivalence_p_values(fixed, broken, images, margin_points)
    adjusted, adjusted_equivalence = holm(p), holm(equivalence_p)
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
            mcnemar_p=p[index],
            adjusted_p=adjusted[index],
            margin_points=margin_points,
            equivalence_p=float(equivalence_p[index]),
            adjusted_equivalence_p=adjusted_equivalence[index],
        )
        for index, pair in enumerate(pairs)
    ]


def readjusted(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Adjust the p-values of some comparisons again, over these comparisons only.

    Example:
        `readjusted([each for each in between if each.base == 0])`
    """
    adjusted = holm([each.mcnemar_p for each in differences])
    adjusted_equivalence = holm([each.equivalence_p for each in differences])
    return [
        replace(each, adjusted_p=p, adjusted_equivalence_p=equivalence_p)
        for each, p, equivalence_p in zip(differences, adjusted, adjusted_equivalence, strict=True)
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
        for module in ("scipy.optimize", "scipy.stats", "statsmodels.stats.contingency_tables"):
            importlib.import_module(module)


def exact_mcnemar_p(fixed: int, broken: int) -> float:
    """Return the two-sided p-value of the exact McNemar test; 1 if no image is fixed or broken.

    Example:
        >>> exact_mcnemar_p(1, 5)
        0.21875
    """
    with needing_extra("report"):
        from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, int(fixed)], [int(broken), 0]], exact=True).pvalue)


def equivalence_p_values(
    fixed: NDArray[np.integer], broken: NDArray[np.integer], images: int, margin_points: float
) -> NDArray[np.float64]:
    """Return the larger p-value of two one-sided score tests for each pair.

    The null hypothesis is that the error rates differ by at least the margin. The p-value is below 5% if and only
    if Tango's 90% score interval lies within the margin.

    Args:
        fixed, broken: Arrays [pairs]: the number of fixed and of broken images of each pair.
        images: The total number of images; it is the same for all pairs.
        margin_points: The margin of equivalence, in percentage points.
    """
    with needing_extra("report"):
        from scipy.stats import norm

    above = norm.sf(score_statistic(fixed, broken, images, -margin_points / 100))
    below = norm.cdf(score_statistic(fixed, broken, images, margin_points / 100))
    larger: NDArray[np.float64] = np.maximum(above, below)
    return larger


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Adjust p-values for multiple testing by Holm's method (S. Holm, 1979); the order is kept.

    Example:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    # Not `multipletests` of statsmodels: each call collects the garbage of the whole process, which takes 0.2
    # seconds.
    values = np.asarray(p_values, np.float64)
    order = values.argsort(kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return [float(p) for p in adjusted]


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
    intervals: NDArray[np.float64] = np.percentile(differences, [2.5, 97.5], axis=1).T
    return intervals
