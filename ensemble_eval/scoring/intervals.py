"""Intervals at 95%: Wilson's for an error rate, Tango's for the difference of two on the same images. Pure numpy.

T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
design", Statistics in Medicine 17 (1998). These intervals cover the difference in 93 to 97% of cases even if only
a handful of images are fixed or broken; adjusted Wald intervals then cover it in 86 to 98.7%.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import needing_extra

# The 97.5% quantile of the normal distribution: two-sided intervals at 95%.
_Z95 = 1.959963984540054
# After so many halvings of an interval of length 2, float64 has no values between its ends.
_HALVINGS = 60
# With values other than 0 in fewer clusters, the estimate of a design effect is too often far too small.
_ENOUGH_CLUSTERS = 10

Counts = NDArray[np.integer] | NDArray[np.float64] | int
Clusters = NDArray[np.intp] | None
"""The cluster of each image, an index from 0; None if images are independent."""


def error_interval_percent(wrong: float, images: float) -> tuple[float, float]:
    """Wilson's 95% score interval of an error rate, in percent (E. B. Wilson, JASA 22, 1927).

    Args:
        wrong: The number of images that are wrong. In clusters, this number and that of all images are divided by
            the design effect.
        images: The number of all images, at least one.

    Example:
        >>> low, high = error_interval_percent(wrong=10, images=100)
        >>> f"{low:.1f} to {high:.1f}"
        '5.5 to 17.4'
    """
    rate = wrong / images
    spread = _Z95 * math.sqrt(rate * (1 - rate) / images + (_Z95 / (2 * images)) ** 2)
    scale = 1 + _Z95**2 / images
    centre = rate + _Z95**2 / (2 * images)
    # At 0 and 100% the bounds are exact, and rounding must not move them.
    low = 0.0 if wrong == 0 else 100 * (centre - spread) / scale
    high = 100.0 if wrong == images else 100 * (centre + spread) / scale
    return low, high


def score_statistic(
    fixed: Counts, broken: Counts, images: Counts, difference: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distance of counts from a supposed difference of two paired error rates, in standard errors.

    The standard error is that under the supposed difference, with maximum likelihood estimates of all else. For a
    difference of 0 this is the square root of McNemar's statistic.

    Args:
        fixed: The number of images that the base gets wrong and the other row gets right.
        broken: The number of images that the base has right and the other row wrong.
        images: The number of all images, at least one.
        difference: The supposed error rate of the other row minus that of the base, as a fraction.

    Example:
        >>> round(float(score_statistic(fixed=2, broken=11, images=100, difference=0.0)), 4)
        2.4962
    """
    lost, won = np.asarray(broken, np.float64), np.asarray(fixed, np.float64)
    supposed = np.asarray(difference, np.float64)
    # The maximum likelihood estimate of the share of fixed images, given the difference: the larger root of
    # a x² + b x + c.
    a = 2.0 * np.asarray(images)
    b = (2 * images - lost + won) * supposed - lost - won
    c = -won * supposed * (1 - supposed)
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
    variance = images * (2 * share + supposed * (1 - supposed))
    distance = lost - won - images * supposed
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = distance / np.sqrt(np.maximum(variance, 0))
    found: NDArray[np.float64] = np.where(distance == 0, 0.0, statistic)
    return found


def score_interval(
    fixed: Counts, broken: Counts, images: Counts, z: float = _Z95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tango's interval: the differences within z standard errors of the counts, as fractions; 95% by default.

    Args:
        fixed, broken, images: As of `score_statistic`; arrays of counts give arrays of bounds.
        z: The quantile of the normal distribution.

    Example:
        One of 44 images is fixed, and none is broken:

        >>> [round(float(bound), 3) for bound in score_interval(fixed=1, broken=0, images=44)]
        [-0.118, 0.059]
    """
    fixed, broken = np.asarray(fixed, np.float64), np.asarray(broken, np.float64)
    return _bound(fixed, broken, images, -1.0, z), _bound(fixed, broken, images, 1.0, z)


def cluster_sums(values: NDArray[np.generic], clusters: NDArray[np.intp]) -> NDArray[np.int64]:
    """The sum over the images of each cluster: int64 [..., clusters] from integers or booleans [..., images]."""
    order = clusters.argsort(kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(clusters.max() + 1))
    sums: NDArray[np.int64] = np.add.reduceat(values[..., order], starts, axis=-1, dtype=np.int64)
    return sums


def design_effects(values: NDArray[np.generic], clusters: Clusters) -> NDArray[np.float64]:
    """How many images of a sample of clusters tell as much as one independent image, at least 1.

    This is the variance of the mean of the values, estimated between clusters (cluster-robust), divided by that of
    independent images (L. Kish, "Survey Sampling", 1965). A factor for the degrees of freedom is included (E. Korn
    and B. Graubard, Survey Methodology 24, 1998). An interval or test takes all numbers of images divided by it.
    If values differ from 0 in fewer than ten clusters, the images of a cluster count as all alike.

    Args:
        values: Booleans, or -1, 0 and 1, [..., images], such as the errors of a row or the differences of two.
        clusters: The cluster of each image.

    Raises:
        InputError: SciPy (the extra `[report]`) is not installed.

    Example:
        Twenty clusters of five images that are all wrong or all right:

        >>> design_effects(np.arange(100) // 5 % 2 == 0, np.arange(100) // 5).round(1)
        array(6.)
    """
    if clusters is None:
        return np.ones(values.shape[:-1])
    with needing_extra("report"):
        from scipy.stats import t

    sizes = np.bincount(clusters)
    sums, images, others = cluster_sums(values, clusters), len(clusters), len(sizes) - 1
    total = sums.sum(axis=-1, keepdims=True)
    between = ((sums - total * sizes / images) ** 2).sum(axis=-1) * len(sizes) / others
    within = cluster_sums(values != 0, clusters)
    alone = within.sum(axis=-1) - total[..., 0] ** 2 / images
    effect = between / np.where(alone > 0, alone, 1)
    at_most = (sizes**2).sum() / images
    few = np.count_nonzero(within, axis=-1) < _ENOUGH_CLUSTERS
    effect = np.where(few, np.maximum(effect, at_most), effect)
    found: NDArray[np.float64] = np.maximum(effect * (t.ppf(0.975, others) / _Z95) ** 2, 1)
    return found


def _bound(
    fixed: NDArray[np.float64], broken: NDArray[np.float64], images: Counts, end: float, z: float
) -> NDArray[np.float64]:
    """The difference nearest to an end of the range that lies within z standard errors, by bisection."""
    inside: NDArray[np.float64] = (broken - fixed) / images
    outside = np.full(inside.shape, end)
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        beyond = np.abs(score_statistic(fixed, broken, images, middle)) > z
        outside, inside = np.where(beyond, middle, outside), np.where(beyond, inside, middle)
    return inside
