"""The difference of two error rates over the same images, with its interval, its tests and a verdict.

The interval and the tests rest on one model, that of matched pairs: it counts the images that the first row, the
second, both or neither classify wrongly. SciPy and statsmodels (the extra `[report]`) are imported when they are
used.
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
# With fewer images that are fixed or broken, bootstrap intervals at 95% would cover the difference in less than
# 93%.
BOOTSTRAP_NEEDS_IMAGES = 10
# The memory of one batch of resamples; each image of a resample has an index of eight bytes.
_BATCH_BYTES = 64 << 20

Verdict = Literal["better", "worse", "equal", "cannot be told apart"]


@dataclass(frozen=True)
class PairedDifference:
    """The difference between the error rates of two rows over the same images.

    Attributes:
        base, other: The two rows, as positions among the rows that were compared.
        images: The number of images.
        base_wrong, other_wrong: The number of images that each row has wrong.
        fixed: The number of images that the base has wrong and the other row right.
        broken: The number of images that the base has right and the other row wrong.
        difference_points: The error of the other row minus that of the base, in percentage points; negative is
            better.
        low_points, high_points: Tango's score interval of the difference at 95%, in percentage points.
        bootstrap_points: The percentile interval at 95% of resampled images, in percentage points; None if fewer
            than `BOOTSTRAP_NEEDS_IMAGES` images are fixed or broken, because it would be too narrow.
        mcnemar_p: The p-value of the exact McNemar test, whose null hypothesis is that fixed and broken images are
            equally likely.
        adjusted_p: `mcnemar_p` after Holm's adjustment over all rows that were compared at once.
        margin_points: Two errors that differ by less count as equal.
        equivalence_p: The larger p-value of two one-sided score tests, whose null hypothesis is that the
            difference is at least the margin.
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
        """Whether the adjusted McNemar test tells the two apart, at 5%."""
        return self.adjusted_p < SIGNIFICANCE

    @property
    def is_equal_within_margin(self) -> bool:
        """Whether the adjusted tests of equivalence place the difference within the margin, at 5%."""
        return self.adjusted_equivalence_p < SIGNIFICANCE

    @property
    def verdict(self) -> Verdict:
        """The conclusion that the tests support; a difference comes before equality."""
        if self.is_different:
            return "better" if self.difference_points < 0 else "worse"
        return "equal" if self.is_equal_within_margin else "cannot be told apart"

    @property
    def verdict_text(self) -> str:
        """The verdict as a phrase, with the margin if it matters."""
        if self.is_different:
            small = f", by less than {self.margin_points:g} points" if self.is_equal_within_margin else ""
            return f"{self.verdict}{small}"
        return f"equal within {self.margin_points:g} points" if self.is_equal_within_margin else self.verdict


def pairs_with_first(rows: int) -> list[tuple[int, int]]:
    """The pairs of the first row, as the base, with every other row.

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
    """Compare rows of decisions over the same images, two at a time, and adjust for comparing several.

    The difference has Tango's score interval (T. Tango, Statistics in Medicine 17, 1998). Two one-sided tests of
    the same statistic test equality within the margin, and the exact McNemar test tests a difference. Holm's
    method adjusts the p-values of each kind over all `pairs`.

    Args:
        wrong: [rows, images], whether a row has an image wrong.
        pairs: The base and the other row of each comparison, as positions.
        margin_points: Smaller differences count as equal, in percentage points.
        seed: The seed of the bootstrap; the same seed gives the same interval.
        resamples: The number of resamples of the bootstrap; 0 for no bootstrap.

    Raises:
        InputError: There are no images, the margin is not valid, or a package of the extra `[report]` is missing.

    Example:
        A second row that fixes nine of a hundred images and breaks none:

        >>> import numpy as np
        >>> wrong = np.zeros((2, 100), bool)
        >>> wrong[0, :9] = True
        >>> [found] = paired_differences(wrong, [(0, 1)])
        >>> found.fixed, found.broken, found.difference_points, round(found.mcnemar_p, 4), found.verdict
        (9, 0, -9.0, 0.0039, 'better')
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
            int(base[row].sum()),
            int(other[row].sum()),
            int(fixed[row]),
            int(broken[row]),
            difference_points=100 * int(broken[row] - fixed[row]) / images,
            low_points=100 * float(low[row]),
            high_points=100 * float(high[row]),
            bootstrap_points=tuple(bootstrap[row]) if enough[row] else None,
            mcnemar_p=p[row],
            adjusted_p=adjusted[row],
            margin_points=margin_points,
            equivalence_p=float(equivalence_p[row]),
            adjusted_equivalence_p=adjusted_equivalence[row],
        )
        for row, pair in enumerate(pairs)
    ]


def readjusted(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The same comparisons with p-values that are adjusted over these comparisons only.

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
    """Refuse a margin that no difference, or every difference, would lie within."""
    if not 0 < margin_points < 100:
        raise InputError(f"`margin` is more than 0 and less than 100 percentage points, not {margin_points:g}")


def require_packages() -> None:
    """Refuse to begin without a package that the tests need; the error names the package and the extra."""
    with needing_extra("report"):
        for module in ("scipy.optimize", "scipy.stats", "statsmodels.stats.contingency_tables"):
            importlib.import_module(module)


def exact_mcnemar_p(fixed: int, broken: int) -> float:
    """The two-sided p-value of the exact McNemar test; 1 if no image is fixed or broken.

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
    """The larger p-value of two one-sided score tests, whose null hypothesis is a difference outside the margin.

    It is below 5% exactly if Tango's score interval at 90% lies within the margin.

    Args:
        fixed, broken: [pairs], the number of images.
        images: The number of all images of each pair.
        margin_points: In percentage points.
    """
    with needing_extra("report"):
        from scipy.stats import norm

    above = norm.sf(score_statistic(fixed, broken, images, -margin_points / 100))
    below = norm.cdf(score_statistic(fixed, broken, images, margin_points / 100))
    larger: NDArray[np.float64] = np.maximum(above, below)
    return larger


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """p-values after Holm's adjustment for testing all of them at once (S. Holm, 1979), in the same order.

    Example:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    # The function of statsmodels collects the garbage of the whole process at each call, which takes 0.2 seconds.
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
    """Percentile intervals at 95% of differences of error rates, from images that are drawn with replacement.

    Each image is drawn with the outcomes of all rows, so that all pairs share their resamples. Memory stays below
    some 100 MB for any number of images.

    Args:
        wrong, pairs, seed: As of `paired_differences`.
        resamples: The number of resamples; 0 gives NaN.

    Returns:
        float64 [pairs, 2], low and high as fractions.

    Raises:
        InputError: SciPy is not installed.
    """
    if not resamples or not len(pairs):
        return np.full((len(pairs), 2), np.nan)
    with needing_extra("report"):
        from scipy.stats import bootstrap

    # SciPy resamples the error rates of rows only: there are more pairs than rows, and their differences are
    # cheap.
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
