"""Training the SVMs of R-CNN: objects against regions that overlap none of their class, with hard negatives."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Boxes, Objects
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.detection.proposals import Proposals, all_regions
from ensemble_eval.detection.regions import object_classes, warp_regions
from ensemble_eval.detection.svm import Features, RegionSvm
from ensemble_eval.errors import InputError, UnreadableImageError, needing_extra
from ensemble_eval.jobs.devices import choose_device
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.scoring.average_precision import overlaps

# As in R-CNN: a region that overlaps an object of the class by less is none of it.
MOST_OVERLAP_OF_NEGATIVES = 0.3
# R-CNN's, for features of this mean length.
_MEAN_LENGTH, _C, _BIAS_SCALE, _POSITIVE_WEIGHT = 20.0, 1e-3, 10.0, 2.0
_FIRST_NEGATIVES, _ROUNDS = 2000, 3
_BATCH_SIZE = 32


@dataclass(frozen=True)
class FeaturesTaken:
    """How many images have given their features."""

    done: int
    total: int


@dataclass(frozen=True)
class _Regions:
    """Features float32 [regions, features], and which overlap each has with the objects of each class."""

    features: NDArray[np.float32]
    overlaps: NDArray[np.float32]
    is_object: NDArray[np.bool_]


def train_svm(
    ensemble: Ensemble,
    dataset: Dataset,
    objects: Mapping[str, Objects],
    proposals: Mapping[str, Mapping[str, Proposals]],
    *,
    regions_per_image: int = 64,
    seed: int = 0,
    device: str = "auto",
) -> Generator[FeaturesTaken | RegionSvm, None, None]:
    """Train one SVM for each class, on features of the ensemble's first member.

    Args:
        ensemble: region classifiers.
        dataset: images to learn from.
        objects: what they show.
        proposals: by image, then by set.
        regions_per_image: proposals of an image that may be negatives, drawn with `seed`.
        seed: of the draws.
        device: where features are computed: `auto`, `cpu`, `cuda` or `cuda:N`.

    Yields:
        How far the features are, and then the SVMs.

    Raises:
        InputError: scikit-learn is missing, an image cannot be read, or a class has no object.
    """
    with needing_extra("detection", "training SVMs"):
        import sklearn  # noqa: F401 (only whether it is there)
    names = object_classes(ensemble)
    features = Features(ensemble.members[0], ensemble.classes.count, choose_device(device))
    taken = []
    for number, item in enumerate(dataset.items):
        rng = np.random.default_rng((seed, number))
        boxes = _some(all_regions(proposals[item.id]), regions_per_image, rng)
        taken.append(_of_image(item, objects[item.id], boxes, features, len(names)))
        yield FeaturesTaken(number + 1, len(dataset.items))
    regions = _Regions(
        np.concatenate([each.features for each in taken]),
        np.concatenate([each.overlaps for each in taken]),
        np.concatenate([each.is_object for each in taken]),
    )
    weights, biases = _fit_all(regions, names, seed)
    yield RegionSvm(weights, biases, member_sha256(ensemble.members[0]), names)


def _fit_all(regions: _Regions, names: Sequence[str], seed: int) -> tuple[Tensor, Tensor]:
    """Weights float32 [classes, features] and biases float32 [classes]."""
    from sklearn.svm import LinearSVC

    scale = _MEAN_LENGTH / float(np.linalg.norm(regions.features, axis=1).mean())
    weights, biases = [], []
    for index, name in enumerate(names):
        svm = LinearSVC(
            C=_C,
            class_weight={1: _POSITIVE_WEIGHT, 0: 1.0},
            dual=False,
            intercept_scaling=_BIAS_SCALE,
            max_iter=10_000,
            random_state=seed,
        )
        _fit(svm, regions, scale, index, name, np.random.default_rng((seed, index, 1)))
        weights.append(svm.coef_[0] * scale)
        biases.append(float(svm.intercept_[0]))
    return torch.tensor(np.stack(weights), dtype=torch.float32), torch.tensor(biases, dtype=torch.float32)


def _some(boxes: Boxes, most: int, rng: np.random.Generator) -> Boxes:
    return boxes[np.sort(rng.permutation(len(boxes))[:most])]


def _of_image(item: Item, shown: Objects, boxes: Boxes, features: Features, classes: int) -> _Regions:
    """The image's objects, then its proposals."""
    try:
        image = pixels.decode(item.read())
    except UnreadableImageError as error:
        raise InputError(f"{item.id} {error}; leave it out of what is learnt from") from error
    known = shown.boxes[~shown.ignored]
    every = np.concatenate([known, boxes])
    found = [
        features(warp_regions(image, every[start : start + _BATCH_SIZE])).cpu().numpy()
        for start in range(0, len(every), _BATCH_SIZE)
    ]
    by_class = np.zeros((len(every), classes), np.float32)
    # Ignored objects are no negatives either.
    for box, index in zip(shown.boxes, shown.classes, strict=True):
        by_class[:, index] = np.maximum(by_class[:, index], overlaps(every, box[None])[:, 0])
    is_object = np.zeros((len(every), classes), bool)
    is_object[np.arange(len(known)), shown.classes[~shown.ignored]] = True
    joined = np.concatenate([np.empty((0, features.count), np.float32), *found])
    return _Regions(joined, by_class, is_object)


def _fit(svm: Any, regions: _Regions, scale: float, index: int, name: str, rng: np.random.Generator) -> None:
    """Fit to the objects of a class and some negatives, then again with those that it takes for objects."""
    positives = np.flatnonzero(regions.is_object[:, index])
    negatives = np.flatnonzero(regions.overlaps[:, index] < MOST_OVERLAP_OF_NEGATIVES)
    if not len(positives) or not len(negatives):
        lacking = "object" if not len(positives) else "region without one"
        raise InputError(f"there is no {lacking} of {name} to learn from; give more images")
    chosen = np.sort(rng.permutation(negatives)[:_FIRST_NEGATIVES])
    for _ in range(_ROUNDS):
        rows = np.concatenate([positives, chosen])
        labels = np.concatenate([np.ones(len(positives), int), np.zeros(len(chosen), int)])
        svm.fit(regions.features[rows] * scale, labels)
        margins = svm.decision_function(regions.features[negatives] * scale)
        hard = np.union1d(chosen, negatives[margins > -1.0])
        if len(hard) == len(chosen):
            return
        chosen = hard
