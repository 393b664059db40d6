"""The classifiers of R-CNN: one linear SVM a class on a member's last pooling (R-CNN, section 2.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.detection.regions import object_classes
from ensemble_eval.errors import InputError
from ensemble_eval.members.described import read_described, save_described
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.googlenet import GoogLeNet
from ensemble_eval.models.layers import fold_batch_norm

_KIND = "svm"
_LAST_STAGE = "inception5b"


@dataclass(frozen=True)
class RegionSvm:
    """Linear classifiers of one member's features.

    Attributes:
        weights: float32 [classes, features].
        biases: float32 [classes].
        member: SHA-256 of the member's weights.
        class_names: of the objects, in index order.
    """

    weights: Tensor
    biases: Tensor
    member: str
    class_names: tuple[str, ...]


class Features:
    """A member up to its last pooling.

    Attributes:
        count: of the features.

    Args:
        member: of the registry, with weights in a file.
        num_outputs: of its network.
        device: where it runs.

    Raises:
        InputError: the member is no GoogLeNet of ours, or its weights cannot be used.
    """

    def __init__(self, member: Member, num_outputs: int, device: torch.device) -> None:
        if member.predict is not None:
            raise InputError(f"member {member.name} is a function, and SVMs need the features of a GoogLeNet")
        network = load_member(member, num_outputs)
        if not isinstance(network, GoogLeNet):
            raise InputError(f"member {member.name} is {member.arch}, and SVMs need the features of a GoogLeNet")
        self._network: nn.Module = fold_batch_norm(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self.count: int = network.fc.in_features
        self._device = device
        self._preprocess = SharedPreprocessing(member.input, device)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Tensor:
        """Features uint8 [B, 3, 224, 224] -> float32 [B, features]."""
        network = self._network
        assert isinstance(network, GoogLeNet)
        with full_float32():
            [maps] = network.feature_maps(self._preprocess(crops.to(self._device)), [_LAST_STAGE])
            pooled: Tensor = network.avgpool(maps)
        return pooled.flatten(1)


def require_fits(svm: RegionSvm, ensemble: Ensemble) -> None:
    """Refuse SVMs on the features of another member than an ensemble's first, or of other classes.

    Raises:
        InputError: they are.
    """
    first = ensemble.members[0]
    if svm.class_names != object_classes(ensemble) or svm.member != member_sha256(first):
        raise InputError(
            f"the SVMs are of another member or of other classes than {first.name} of {ensemble.name}; train them "
            "with `ensemble-eval detect-svm`"
        )


def svm_predict(svm: RegionSvm, ensemble: Ensemble, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Class scores by SVM, behind the `Predict` interface: margins float32 [B, outputs], 0 for no object.

    Args:
        svm: of the ensemble's first member; see `require_fits`.
        ensemble: region classifiers.
        device: where it runs.

    Raises:
        InputError: the member is no GoogLeNet of ours, or its weights cannot be used.
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
        InputError: the folder or disk does not take the file.
    """
    tensors = {"weights": svm.weights, "biases": svm.biases}
    return save_described(path, tensors, {"member": svm.member, "classes": list(svm.class_names)}, _KIND)


def load_svm(path: Path) -> RegionSvm:
    """Read what `save_svm` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds no SVMs.
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
