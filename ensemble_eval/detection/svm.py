"""R-CNN's classifiers: one linear SVM per class on the last pooling of a member (R-CNN, section 2.3).

They are trained on objects against regions that hardly overlap an object of their class, with hard negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Boxes, Objects, read_boxes
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.detection.proposals import StoredProposals, all_regions
from ensemble_eval.detection.regions import object_classes, warp_regions
from ensemble_eval.errors import InputError, UnreadableImageError, needing_extra
from ensemble_eval.jobs.devices import choose_device
from ensemble_eval.members.described import read_described, save_described
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.googlenet import GoogLeNet
from ensemble_eval.models.layers import fold_batch_norm
from ensemble_eval.scoring.average_precision import overlaps
from ensemble_eval.settings import SvmSettings

_KIND = "svm"
_LAST_STAGE = "inception5b"
# As in R-CNN: a region that overlaps every object of the class by less is a negative.
MAX_OVERLAP_OF_NEGATIVES = 0.3
# R-CNN's values, for features of this mean length.
_MEAN_LENGTH, _C, _BIAS_SCALE, _POSITIVE_WEIGHT = 20.0, 1e-3, 10.0, 2.0
_FIRST_NEGATIVES, _ROUNDS = 2000, 3
_BATCH_SIZE = 32


@dataclass(frozen=True)
class RegionSvm:
    """Linear classifiers on the features of one member.

    Attributes:
        weights: float32 [classes, features].
        biases: float32 [classes].
        member: The SHA-256 of the member's weights.
        class_names: The classes of objects, in index order.
    """

    weights: Tensor
    biases: Tensor
    member: str
    class_names: tuple[str, ...]


class Features:
    """A member up to its last pooling.

    Attributes:
        count: The number of features.

    Args:
        member: A member with weights in a file.
        num_outputs: The number of outputs of its network.
        device: The device to run on.

    Raises:
        InputError: The member is no GoogLeNet of the registry, or its weights cannot be used.
    """

    def __init__(self, member: Member, num_outputs: int, device: torch.device) -> None:
        if member.predict is not None:
            raise InputError(f"member {member.name} is a function, and SVMs need the features of a GoogLeNet")
        network = load_member(member, num_outputs)
        if not isinstance(network, GoogLeNet):
            raise InputError(f"member {member.name} is {member.arch}, and SVMs need the features of a GoogLeNet")
        fold_batch_norm(network)
        self._network: GoogLeNet = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self.count: int = network.fc.in_features
        self._device = device
        self._preprocess = SharedPreprocessing(member.input, device)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Tensor:
        """The features of crops: uint8 [B, 3, 224, 224] -> float32 [B, features]."""
        with full_float32():
            [maps] = self._network.feature_maps(self._preprocess(crops.to(self._device)), [_LAST_STAGE])
            pooled: Tensor = self._network.avgpool(maps)
        return pooled.flatten(1)


def require_fits(svm: RegionSvm, ensemble: Ensemble) -> None:
    """Check that SVMs belong to the first member of an ensemble and to its classes.

    Raises:
        InputError: They do not.
    """
    first = ensemble.members[0]
    if svm.class_names != object_classes(ensemble) or svm.member != member_sha256(first):
        raise InputError(
            f"the SVMs are of another member or of other classes than {first.name} of {ensemble.name}; train them "
            "with `ensemble-eval detect-svm`"
        )


def svm_predict(svm: RegionSvm, ensemble: Ensemble, device: torch.device) -> Callable[[Tensor], Tensor]:
    """SVMs behind the `Predict` interface: it returns margins float32 [B, outputs], 0 for "no object".

    Args:
        svm: SVMs of the ensemble's first member.
        ensemble: Region classifiers.
        device: The device to run on.

    Raises:
        InputError: The member is no GoogLeNet of the registry, or its weights cannot be used.
    """
    features = Features(ensemble.members[0], ensemble.classes.count, device)
    weights, biases = svm.weights.to(device), svm.biases.to(device)
    others = ensemble.classes.count - len(biases)

    def predict(crops: Tensor) -> Tensor:
        margins = features(crops) @ weights.T + biases
        return torch.cat([margins, margins.new_zeros(len(margins), others)], dim=1)

    return predict


def save_svm(path: Path, svm: RegionSvm) -> str:
    """Write SVMs as safetensors, as a whole or not at all; return the file's SHA-256 in hexadecimal.

    Raises:
        InputError: The folder or disk does not take the file.
    """
    tensors = {"weights": svm.weights, "biases": svm.biases}
    return save_described(path, tensors, {"member": svm.member, "classes": list(svm.class_names)}, _KIND)


def load_svm(path: Path) -> RegionSvm:
    """Read SVMs that `save_svm` wrote.

    Raises:
        InputError: The file is missing, damaged, or holds no SVMs.
    """
    tensors, description = read_described(path, _KIND, "the SVMs")
    try:
        classes = tuple(map(str, description["classes"]))
        member = str(description["member"])
        svm = RegionSvm(tensors["weights"].float(), tensors["biases"].float(), member, classes)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} holds no SVMs; `ensemble-eval detect-svm` writes them") from error
    if svm.weights.ndim != 2 or not len(svm.weights) == len(svm.biases) == len(classes):
        raise InputError(f"{path} is damaged: its SVMs do not fit its {len(classes)} classes; train them again")
    if not all(bool(each.isfinite().all()) for each in (svm.weights, svm.biases)):
        raise InputError(f"{path} is damaged: it holds NaN or infinity; train the SVMs again")
    return svm


class _Regions(NamedTuple):
    """The features of regions, their overlaps with the objects of each class, and which objects they are."""

    features: NDArray[np.float32]
    overlaps: NDArray[np.float32]
    is_object: NDArray[np.bool_]


def train_svm(
    ensemble: Ensemble, dataset: Dataset, settings: SvmSettings, on_progress: Callable[[int], object]
) -> RegionSvm:
    """Train one SVM for each class on the features of the ensemble's first member.

    Args:
        ensemble: Region classifiers.
        dataset: Images to learn from.
        settings: The annotations and proposals of the images, and how many proposals of an image to learn from.
        on_progress: Called with the number of images that are done, after each.

    Raises:
        InputError: scikit-learn is missing, an image cannot be read, or a class has no object.
    """
    with needing_extra("detection", "training SVMs"):
        import sklearn  # noqa: F401 (only whether it is there)
    names = object_classes(ensemble)
    objects = read_boxes(settings.boxes, names, [item.id for item in dataset.items])
    proposals = StoredProposals(settings.proposals, dataset)
    features = Features(ensemble.members[0], ensemble.classes.count, choose_device(settings.device))
    taken = []
    for number, item in enumerate(dataset.items):
        rng = np.random.default_rng((settings.seed, number))
        boxes = all_regions(proposals[item.id])
        some = boxes[np.sort(rng.permutation(len(boxes))[: settings.regions])]
        taken.append(_of_image(item, objects[item.id], some, features, len(names)))
        on_progress(number + 1)
    regions = _Regions(*map(np.concatenate, zip(*taken, strict=True)))
    fitted = [_fit(regions, index, name, settings.seed) for index, name in enumerate(names)]
    weights, biases = (torch.tensor(np.stack(each), dtype=torch.float32) for each in zip(*fitted, strict=True))
    return RegionSvm(weights, biases, member_sha256(ensemble.members[0]), names)


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
    np.maximum.at(by_class.T, shown.classes, overlaps(shown.boxes, every).astype(np.float32))
    is_object = np.zeros((len(every), classes), bool)
    is_object[np.arange(len(known)), shown.classes[~shown.ignored]] = True
    joined = np.concatenate([np.empty((0, features.count), np.float32), *found])
    return _Regions(joined, by_class, is_object)


def _fit(regions: _Regions, index: int, name: str, seed: int) -> tuple[NDArray[np.float64], float]:
    """The weights and the bias of one class.

    They are fitted to its objects and some negatives, then again with the negatives that they take for objects.
    """
    from sklearn.svm import LinearSVC

    positives = np.flatnonzero(regions.is_object[:, index])
    negatives = np.flatnonzero(regions.overlaps[:, index] < MAX_OVERLAP_OF_NEGATIVES)
    if not len(positives) or not len(negatives):
        lacking = "object" if not len(positives) else "region without one"
        raise InputError(f"there is no {lacking} of {name} to learn from; give more images")
    svm = LinearSVC(
        C=_C,
        class_weight={1: _POSITIVE_WEIGHT, 0: 1.0},
        dual=False,
        intercept_scaling=_BIAS_SCALE,
        max_iter=10_000,
        random_state=seed,
    )
    scale = _MEAN_LENGTH / float(np.linalg.norm(regions.features, axis=1).mean())
    chosen = np.sort(np.random.default_rng((seed, index, 1)).permutation(negatives)[:_FIRST_NEGATIVES])
    for _ in range(_ROUNDS):
        rows = np.concatenate([positives, chosen])
        svm.fit(regions.features[rows] * scale, (np.arange(len(rows)) < len(positives)).astype(int))
        margins = svm.decision_function(regions.features[negatives] * scale)
        hard = np.union1d(chosen, negatives[margins > -1.0])
        if len(hard) == len(chosen):
            break
        chosen = hard
    return svm.coef_[0] * scale, float(svm.intercept_[0])
