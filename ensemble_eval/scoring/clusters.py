"""Images in clusters, which are not independent: near-duplicates, frames of a video, pictures of a patient.

SciPy (the extra `[report]`) is imported when it is used.
"""

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import needing_extra
from ensemble_eval.scoring.intervals import Z95, error_interval_percent

Clusters = NDArray[np.intp] | None
"""The cluster of each image, an index from 0; None if images are independent."""
# If fewer clusters have values other than 0, the estimated design effect is often far too small.
_ENOUGH_CLUSTERS = 10


def cluster_count(clusters: Clusters) -> int:
    """The number of clusters; 0 if images are independent."""
    return 0 if clusters is None else int(clusters.max()) + 1


def folds_of(images: int, folds: int, seed: int, clusters: Clusters = None) -> NDArray[np.intp]:
    """Draw the fold of each image, with a seed. The images of a cluster are in one fold."""
    units = cluster_count(clusters) or images
    drawn: NDArray[np.intp] = np.random.default_rng(seed).permutation(units) % folds
    return drawn if clusters is None else drawn[clusters]


def cluster_sums(values: NDArray[np.generic], clusters: NDArray[np.intp]) -> NDArray[np.int64]:
    """The sum over the images of each cluster: int64 [..., clusters] from integers or booleans [..., images]."""
    order = clusters.argsort(kind="stable")
    starts = np.searchsorted(clusters[order], np.arange(clusters.max() + 1))
    return np.add.reduceat(values[..., order], starts, axis=-1, dtype=np.int64)


def design_effects(values: NDArray[np.generic], clusters: Clusters) -> NDArray[np.float64]:
    """How many images of a sample of clusters carry as much information as one independent image, at least 1.

    This is the variance of the mean of the values, estimated between clusters (cluster-robust), divided by that of
    independent images (L. Kish, "Survey Sampling", 1965). A factor for the degrees of freedom is included (E. Korn
    and B. Graubard, Survey Methodology 24, 1998). Intervals and tests divide all numbers of images by it. If
    values differ from 0 in fewer than ten clusters, the images of each cluster are treated as all alike.

    Args:
        values: Booleans, or -1, 0 and 1, [..., images], such as the errors of a row or the differences of two.
        clusters: The cluster of each image.

    Raises:
        InputError: SciPy (the extra `[report]`) is not installed.

    Example:
        Twenty clusters of five images that are all wrong or all right:

        >>> round(float(design_effects(np.arange(100) // 5 % 2 == 0, np.arange(100) // 5)), 1)
        6.0
    """
    if clusters is None:
        return np.ones(values.shape[:-1])
    with needing_extra("report"):
        from scipy.stats import t

    sizes = np.bincount(clusters)
    sums, images, others = cluster_sums(values, clusters), len(clusters), max(len(sizes) - 1, 1)
    total = sums.sum(axis=-1, keepdims=True)
    between = ((sums - total * sizes / images) ** 2).sum(axis=-1) * len(sizes) / others
    within = cluster_sums(values != 0, clusters)
    alone = within.sum(axis=-1) - total[..., 0] ** 2 / images
    effect = between / np.where(alone > 0, alone, 1)
    at_most = (sizes**2).sum() / images
    few = np.count_nonzero(within, axis=-1) < _ENOUGH_CLUSTERS
    effect = np.where(few, np.maximum(effect, at_most), effect)
    found: NDArray[np.float64] = np.maximum(effect * (t.ppf(0.975, others) / Z95) ** 2, 1)
    return found


def error_intervals_percent(wrong: NDArray[np.bool_], clusters: Clusters) -> list[tuple[float, float]]:
    """The 95% interval of the error of each row of `wrong` [rows, images], in percent."""
    effects = design_effects(wrong, clusters)
    effective = zip((wrong.sum(axis=1) / effects).tolist(), (wrong.shape[1] / effects).tolist(), strict=True)
    return [error_interval_percent(*each) for each in effective]
