"""Calibration errors against torchmetrics, temperatures against a plain search in float64."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from ensemble_eval.scoring.calibration import fit_temperature, reliability

CLASSES = 12


def softmax_and_labels(
    images: int, sureness: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """float32 [images, classes] that are `sureness` times as sure of themselves as the labels bear out."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(images, CLASSES))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(CLASSES, p=row) for row in truth])
    powers = np.exp(sureness * logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), labels


def torchmetrics_error(scores: NDArray[np.floating], labels: NDArray[np.int64], bins: int) -> float:
    # Imported here: it takes a second of every process that collects tests.
    from torchmetrics.functional.classification import multiclass_calibration_error

    tensors = torch.from_numpy(scores).double(), torch.from_numpy(labels)
    return float(multiclass_calibration_error(*tensors, scores.shape[1], n_bins=bins, norm="l1"))


@pytest.mark.slow
@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("sureness", [0.5, 1.0, 2.0])
def test_the_calibration_error_is_torchmetrics(sureness: float, bins: int) -> None:
    scores, labels = softmax_and_labels(700, sureness)
    assert scores.max() < 1
    found = reliability(scores.max(axis=1), scores.argmax(axis=1) == labels, bins)
    expected = torchmetrics_error(scores, labels, bins)
    assert found.expected_calibration_error == pytest.approx(expected, abs=1e-6)
    assert sum(each.images for each in found.bins) == found.images == 700


def test_edges_belong_to_the_bin_above_and_1_to_the_last() -> None:
    found = reliability(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.ones(5, bool), bins=4)
    assert [each.images for each in found.bins] == [1, 1, 1, 2]
    assert [(each.low, each.high) for each in found.bins] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert found.bins[3].mean_confidence == pytest.approx(0.875)
    empty = reliability(np.array([0.1]), np.ones(1, bool), bins=2).bins[1]
    assert (empty.images, empty.mean_confidence, empty.accuracy) == (0, None, None)


@pytest.mark.slow
def test_where_confidences_are_exactly_1_torchmetrics_has_one_bin_more() -> None:
    scores = np.array([[1.0, 0.0], [0.9375, 0.0625]])
    theirs = torchmetrics_error(scores, np.array([1, 0]), bins=15)
    ours = reliability(scores.max(axis=1), np.array([False, True]))
    assert theirs == pytest.approx((1 + 0.0625) / 2)
    assert ours.expected_calibration_error == pytest.approx(abs(0.5 - 0.96875))


def test_the_brier_score_is_sklearns_and_its_parts_are_murphys() -> None:
    """Forecasts of 0.05 to 0.95, each in a bin of its own, so that nothing is left within bins."""
    rng = np.random.default_rng(8)
    confidence = (rng.integers(10, size=500) + 0.5) / 10
    is_right = rng.random(500) < confidence**2
    found = reliability(confidence, is_right, bins=10)
    assert found.brier_score == pytest.approx(brier_score_loss(is_right, confidence))
    calibrated, resolution, uncertainty, rest = found.brier_parts
    groups = [(confidence == value) for value in np.unique(confidence)]
    shares, rates = [each.mean() for each in groups], [is_right[each].mean() for each in groups]
    assert calibrated == pytest.approx(np.dot(shares, (np.unique(confidence) - rates) ** 2))
    assert resolution == pytest.approx(np.dot(shares, (np.array(rates) - is_right.mean()) ** 2))
    assert uncertainty == pytest.approx(is_right.var())
    assert rest == pytest.approx(0, abs=1e-12)
    assert abs(reliability(confidence, is_right, bins=2).brier_parts[3]) > 0.001


@pytest.mark.parametrize("sureness", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_likeliest_of_a_fine_grid(sureness: float) -> None:
    scores, labels = softmax_and_labels(600, sureness)
    logs = np.log(scores.astype(np.float64))

    def nll(temperature: float) -> float:
        powers = logs / temperature
        total = np.log(np.exp(powers).sum(axis=1))
        return float((total - powers[np.arange(len(labels)), labels]).mean())

    found = fit_temperature(scores, labels, scores.argmax(axis=1) == labels)
    assert found.nll_before == pytest.approx(nll(1.0), abs=1e-5)
    best = min(nll(temperature) for temperature in np.geomspace(0.1, 10, 400))
    assert nll(found.temperature) <= best + 1e-6
    powers = scores.astype(np.float64) ** (1 / found.temperature)
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    assert found.in_sample.mean_confidence == pytest.approx(float(confidence.mean()), abs=1e-5)
    # The labels were drawn from the scores of sureness 1.
    assert found.temperature == pytest.approx(sureness, rel=0.15)


def test_mending_is_told_in_sample_and_on_images_that_the_temperature_has_not_seen() -> None:
    scores, labels = softmax_and_labels(900, 2.5)
    is_right = scores.argmax(axis=1) == labels
    before = reliability(scores.max(axis=1), is_right)
    found = fit_temperature(scores, labels, is_right, folds=3, seed=1)
    assert found.cross_fitted is not None
    assert found.nll_cross_fitted is not None
    assert found.in_sample.expected_calibration_error < before.expected_calibration_error / 2
    assert found.cross_fitted.expected_calibration_error < before.expected_calibration_error / 2
    assert found.nll_cross_fitted < found.nll_before
    assert before.accuracy == found.in_sample.accuracy == found.cross_fitted.accuracy
    assert fit_temperature(scores, labels, is_right, folds=3, seed=1) == found
    assert fit_temperature(scores, labels, is_right) == fit_temperature(scores, labels, is_right, folds=2, seed=0)
    assert fit_temperature(scores, labels, is_right, folds=3, seed=2).nll_cross_fitted != found.nll_cross_fitted


def test_scores_of_zero_and_certain_ones_have_a_finite_likelihood() -> None:
    scores = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], np.float32)
    found = fit_temperature(scores, np.array([0, 2, 2]), np.array([True, False, False]))
    assert found.nll_cross_fitted is not None
    assert np.isfinite([found.temperature, found.nll_before, found.nll_cross_fitted]).all()
    alone = fit_temperature(scores[:1], np.array([0]), np.array([True]))
    assert (alone.cross_fitted, alone.nll_cross_fitted) == (None, None)


def test_as_many_images_as_folds_are_enough_and_one_fewer_is_too_few() -> None:
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]], np.float32)
    labels = np.array([0, 1, 1])
    found = fit_temperature(scores, labels, labels == 0, folds=3)
    # Any two of the three are right half of the time or never, so that an even chance is the likeliest confidence,
    # and the hottest temperature, 50, comes nearest to it.
    assert found.cross_fitted is not None
    assert found.cross_fitted.images == 3
    assert found.nll_cross_fitted == pytest.approx(np.log(2), abs=0.03)
    fewer = fit_temperature(scores[:2], labels[:2], labels[:2] == 0, folds=3)
    assert (fewer.cross_fitted, fewer.nll_cross_fitted) == (None, None)


def test_temperatures_are_sought_from_a_fiftieth_to_fifty() -> None:
    # Where all are right, no temperature is cold enough, and where all are wrong none is hot enough.
    scores = np.tile(np.array([0.5001, 0.4999], np.float32), (20, 1))
    labels, all_right = np.zeros(20, int), np.ones(20, bool)
    assert fit_temperature(scores, labels, all_right).temperature == pytest.approx(0.02, rel=0.01)
    assert fit_temperature(scores, 1 - labels, ~all_right).temperature == pytest.approx(50, rel=0.01)
