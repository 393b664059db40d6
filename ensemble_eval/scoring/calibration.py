"""The calibration of confidences, and the temperature that would correct it.

Pure numpy; SciPy (the extra `[report]`) is imported when a temperature is fitted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import needing_extra
from ensemble_eval.scoring.clusters import Clusters, folds_of

BINS = 15
FOLDS = 2
# The range of the search for a temperature.
_COLDEST, _HOTTEST = 0.02, 50.0
# Stored softmax may contain zeros, which have no logarithm; this is the smallest normal float32.
_SMALLEST = np.float32(np.finfo(np.float32).tiny)
# The number of rows whose powers are in memory at once.
_ROWS = 256


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence lies between two edges.

    Attributes:
        low: The lower edge, inclusive.
        high: The upper edge, exclusive; the last bin includes 1.
        images: The number of images.
        mean_confidence: The mean confidence of these images; None if there are none.
        accuracy: The share of these images whose best class is the label; None if there are none.
    """

    low: float
    high: float
    images: int
    mean_confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Top-1 confidence against accuracy.

    Attributes:
        bins: Bins of equal width from 0 to 1, ascending.
        images: The number of images in all bins.
        accuracy: The share of images whose best class is the label.
        mean_confidence: The mean score of the best class.
        expected_calibration_error: The mean over images of the distance between the accuracy of their bin and its
            mean confidence, as a fraction (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
        brier_score: The mean squared distance of the confidence from 1 for right images and 0 for wrong ones (G.
            Brier, Monthly Weather Review 78, 1950).
    """

    bins: tuple[ReliabilityBin, ...]
    images: int
    accuracy: float
    mean_confidence: float
    expected_calibration_error: float
    brier_score: float

    @property
    def brier_parts(self) -> tuple[float, float, float, float]:
        """Reliability, resolution, uncertainty, remainder (A. Murphy, Journal of Applied Meteorology 12, 1973).

        The Brier score is reliability - resolution + uncertainty + remainder. The remainder is 0 if all
        confidences of a bin are equal. Less reliability and more resolution are better.
        """
        full = [
            (each.images / self.images, each.mean_confidence, each.accuracy)
            for each in self.bins
            if each.mean_confidence is not None and each.accuracy is not None
        ]
        calibrated = sum(share * (confidence - accuracy) ** 2 for share, confidence, accuracy in full)
        resolution = sum(share * (accuracy - self.accuracy) ** 2 for share, _, accuracy in full)
        uncertainty = self.accuracy * (1 - self.accuracy)
        return calibrated, resolution, uncertainty, self.brier_score - calibrated + resolution - uncertainty


@dataclass(frozen=True)
class TemperatureFit:
    """One temperature for the scores of all images, and the calibration after it.

    A temperature T turns a mean softmax vector p into p^(1/T), divided by its sum. The order of classes does not
    change, and so the errors do not either.

    Attributes:
        temperature: The T from 0.02 to 50 with the least negative log likelihood of the labels over all images;
            above 1 if the scores are overconfident.
        nll_before: The mean negative log likelihood of the labels, in nats.
        nll_cross_fitted: The same after the temperatures of the folds, each on the images that it was not fitted
            to; None if there are fewer images than folds.
        in_sample: The reliability after `temperature`, on the images that it was fitted to, which is optimistic.
        cross_fitted: The reliability after the temperatures of the folds; None if there are fewer images than
            folds.
    """

    temperature: float
    nll_before: float
    nll_cross_fitted: float | None
    in_sample: Reliability
    cross_fitted: Reliability | None


def reliability(confidence: NDArray[np.floating], is_right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Bin images by confidence, and compare each bin's mean confidence with its accuracy.

    The bins have equal width. A confidence on an edge belongs to the bin above it, and 1 to the last bin.

    Args:
        confidence: [images], at least one, the score of the best class, from 0 to 1.
        is_right: [images], whether the best class is the label.
        bins: The number of bins.

    Example:
        >>> import numpy as np
        >>> found = reliability(np.array([0.9, 0.8, 0.3]), np.array([True, False, False]), bins=2)
        >>> [(each.images, each.accuracy) for each in found.bins], round(found.expected_calibration_error, 4)
        ([(1, 0.0), (2, 0.5)], 0.3333)
    """
    confidence = np.asarray(confidence, np.float64)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.minimum(np.searchsorted(edges, confidence, side="right") - 1, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    confidences = np.bincount(bin_of, weights=confidence, minlength=bins)
    rights = np.bincount(bin_of, weights=is_right, minlength=bins)
    columns = (edges[:-1], edges[1:], counts, confidences, rights)
    found = tuple(
        ReliabilityBin(low, high, count, total / count if count else None, right / count if count else None)
        for low, high, count, total, right in zip(*(column.tolist() for column in columns), strict=True)
    )
    images = len(confidence)
    return Reliability(
        found,
        images,
        accuracy=float(np.mean(is_right)),
        mean_confidence=float(confidence.mean()),
        expected_calibration_error=float(np.abs(confidences - rights).sum() / images),
        brier_score=float(np.mean((confidence - is_right) ** 2)),
    )


def fit_temperature(
    scores: NDArray[np.float32],
    labels: NDArray[np.integer],
    is_right: NDArray[np.bool_],
    *,
    bins: int = BINS,
    folds: int = FOLDS,
    seed: int = 0,
    clusters: Clusters = None,
) -> TemperatureFit:
    """Find the temperature with the greatest likelihood of the labels, in sample and cross-fitted.

    Args:
        scores: float32 [images, classes], mean softmax.
        labels: [images].
        is_right: [images], whether the best class is the label.
        bins: The number of bins of the reliabilities.
        folds: The number of folds into which images are split for the cross-fitted temperatures.
        seed: The seed of the split.
        clusters: The cluster of each image; a fold has whole clusters.

    Raises:
        InputError: SciPy is not installed.

    Example:
        Scores of 0.9 that are right seven times in ten:

        >>> import numpy as np
        >>> scores = np.tile(np.array([0.9, 0.1], np.float32), (100, 1))
        >>> labels = np.array([0] * 70 + [1] * 30)
        >>> found = fit_temperature(scores, labels, labels == 0)
        >>> round(found.temperature, 2), round(found.in_sample.mean_confidence, 2)
        (2.59, 0.7)
    """
    everything, logs = np.arange(len(scores)), _relative_logs(scores)
    own = logs[everything, labels]
    temperature = _likeliest_temperature(logs, own, everything)
    nll_before, _ = _tempered(logs, own, everything, 1.0)
    _, in_sample_confidence = _tempered(logs, own, everything, temperature)
    splits = 1 < folds <= len(scores)
    crossed = _cross_fitted(logs, own, folds_of(len(logs), folds, seed, clusters)) if splits else None
    return TemperatureFit(
        temperature,
        nll_before=float(nll_before.mean()),
        nll_cross_fitted=float(crossed[0].mean()) if crossed else None,
        in_sample=reliability(in_sample_confidence, is_right, bins),
        cross_fitted=reliability(crossed[1], is_right, bins) if crossed else None,
    )


def _cross_fitted(
    logs: NDArray[np.float32], own: NDArray[np.float32], fold_of: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The negative log likelihood and confidence of each image, after the temperature of its fold."""
    nll, confidence = np.empty(len(logs)), np.empty(len(logs))
    for fold in np.unique(fold_of):
        temperature = _likeliest_temperature(logs, own, np.flatnonzero(fold_of != fold))
        held_out = np.flatnonzero(fold_of == fold)
        nll[held_out], confidence[held_out] = _tempered(logs, own, held_out, temperature)
    return nll, confidence


def _likeliest_temperature(logs: NDArray[np.float32], own: NDArray[np.float32], rows: NDArray[np.intp]) -> float:
    with needing_extra("report"):
        from scipy.optimize import minimize_scalar

    def nll(log_temperature: float) -> float:
        return float(_tempered(logs, own, rows, float(np.exp(log_temperature)))[0].mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    return float(np.exp(minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def _relative_logs(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of scores relative to the best score of their row: 0 for the best, negative for others."""
    logs = np.log(np.maximum(scores, _SMALLEST))
    logs -= logs.max(axis=1, keepdims=True)
    return logs


def _tempered(
    logs: NDArray[np.float32], own: NDArray[np.float32], rows: NDArray[np.intp], temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The negative log likelihoods of labels and the scores of best classes after a temperature, for some rows."""
    sums = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        powers = logs[block] / np.float32(temperature)
        sums[start : start + len(block)] = np.exp(powers, out=powers).sum(axis=1)
    return np.log(sums) - own[rows].astype(np.float64) / temperature, 1 / sums
