"""The classifiers of R-CNN: one linear SVM a class on a member's last pooling (R-CNN, section 2.3)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.errors import InputError, first_line
from ensemble_eval.files import sha256_of, write_atomically
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.folding import fold_batch_norm
from ensemble_eval.models.googlenet import GoogLeNet

_METADATA_KEY = "ensemble_eval_svm"
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
        self._preprocess = SharedPreprocessing(member.input, device)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Tensor:
        """Features uint8 [B, 3, 224, 224] -> float32 [B, features]."""
        network = self._network
        assert isinstance(network, GoogLeNet)
        with full_float32():
            [maps] = network.feature_maps(self._preprocess(crops), [_LAST_STAGE])
            pooled: Tensor = network.avgpool(maps)
        return pooled.flatten(1)


def svm_predict(svm: RegionSvm, ensemble: Ensemble, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Class scores by SVM, through the seam of the members: margins float32 [B, classes + 1], 0 for no object.

    Args:
        svm: of the ensemble's first member.
        ensemble: region classifiers.
        device: where it runs.

    Raises:
        InputError: the SVMs are of another member or of other classes.
    """
    names = ensemble.classes.names or ()
    first = ensemble.members[0]
    if svm.class_names != names[:-1] or svm.member != member_sha256(first):
        raise InputError(
            f"the SVMs are of another member or of other classes than {first.name} of {ensemble.name}; train them "
            "with `ensemble-eval detect-svm`"
        )
    features = Features(first, ensemble.classes.count, device)
    weights, biases = svm.weights.to(device), svm.biases.to(device)

    def predict(crops: Tensor) -> Tensor:
        margins = features(crops) @ weights.T + biases
        return torch.cat([margins, margins.new_zeros(len(margins), 1)], dim=1)

    return predict


def save_svm(path: Path, svm: RegionSvm) -> str:
    """Write SVMs as safetensors, as a whole or not at all; return the file's SHA-256 in hexadecimal.

    Raises:
        InputError: the folder or disk does not take the file.
    """
    description = {"member": svm.member, "classes": list(svm.class_names)}
    tensors = {"weights": svm.weights.contiguous(), "biases": svm.biases.contiguous()}
    write_atomically(path, save(tensors, metadata={_METADATA_KEY: json.dumps(description)}))
    return sha256_of(path)


def load_svm(path: Path) -> RegionSvm:
    """Read what `save_svm` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds no SVMs.
    """
    try:
        with safe_open(path, framework="pt") as file:
            description = (file.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"the SVMs {path} cannot be read ({first_line(error)}); check the path") from error
    try:
        said = json.loads(description or "")
        classes = tuple(map(str, said["classes"]))
        svm = RegionSvm(tensors["weights"].float(), tensors["biases"].float(), str(said["member"]), classes)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no SVMs; `ensemble-eval detect-svm` writes them") from error
    if svm.weights.ndim != 2 or not len(svm.weights) == len(svm.biases) == len(classes):
        raise InputError(f"{path} is damaged: its SVMs do not fit its {len(classes)} classes; train them again")
    if not all(bool(each.isfinite().all()) for each in (svm.weights, svm.biases)):
        raise InputError(f"{path} is damaged: it holds NaN or infinity; train the SVMs again")
    return svm


def names_of(ensemble: Ensemble) -> Sequence[str]:
    """The classes of objects that an ensemble of region classifiers knows."""
    return (ensemble.classes.names or ())[:-1]
