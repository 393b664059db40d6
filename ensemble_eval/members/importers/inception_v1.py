"""Google's own retraining of GoogLeNet, Inception-v1, as TF-slim and Keras name its variables."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import BACKGROUND_FIRST, Imported, InputFormat
from ensemble_eval.members.importers.layouts import imported_googlenet

STEM = ("Conv2d_1a_7x7", "Conv2d_2b_1x1", "Conv2d_2c_3x3")
# Their modules are lettered from b.
MODULES = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_PUBLISHED = "69.8% top-1 and 89.6% top-5 (TF-slim's inception_v1)"
# TensorFlow's models see pixels from -1 to 1.
_PLUS_MINUS_ONE = InputFormat(scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_MAX_BYTES = 1 << 29

# A variable's array by its name, or None.
Variables = Callable[[str], NDArray[np.float32] | None]


@dataclass(frozen=True)
class Naming:
    """How a framework names the variables of Inception-v1.

    Attributes:
        scopes: of the trunk's convolutions, by our names.
        weights: of a convolution's weights, with a place for its scope.
        normalisation: of its `beta`, `gamma`, `moving_mean` and `moving_variance`, with places for both.
        classifier: of the classifier's `weights` and `biases`, with a place for which.
    """

    scopes: Mapping[str, str]
    weights: str
    normalisation: str
    classifier: str


def imported(variables: Variables, naming: Naming, file_format: str, place: str) -> Imported:
    """The network whose variables are found under a framework's names.

    Args:
        variables: by name.
        naming: of the variables.
        file_format: a phrase for messages.
        place: the file, for messages.

    Raises:
        InputError: a variable is missing, or has another shape or kind of number.
    """
    tensors = dict(_tensors(_bounded(variables, place), naming, place))
    return imported_googlenet(
        Imported(
            format=file_format,
            arch="googlenet-tensorflow",
            input=_PLUS_MINUS_ONE,
            outputs=BACKGROUND_FIRST,
            published=_PUBLISHED,
            tensors=tensors,
        )
    )


def _bounded(variables: Variables, place: str) -> Variables:
    """Compressed zeros take no space in a file; in memory all variables together have a limit."""
    left = _MAX_BYTES

    def variable(name: str) -> NDArray[np.float32] | None:
        nonlocal left
        array = variables(name)
        left -= 0 if array is None else array.nbytes
        if left < 0:
            raise InputError(
                f"{place} hold more than {_MAX_BYTES >> 20} MiB of numbers, and Inception-v1 has a tenth"
            )
        return array

    return variable


def _tensors(variables: Variables, naming: Naming, place: str) -> Iterator[tuple[str, Tensor]]:
    for ours, scope in naming.scopes.items():
        # Height, width, inputs, outputs there; outputs, inputs, height, width here.
        weight = _tensor(variables, naming.weights.format(scope), 4, place).permute(3, 2, 0, 1).contiguous()
        yield f"{ours}.conv.weight", weight
        for name, which in (("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            yield f"{ours}.bn.{name}", _tensor(variables, naming.normalisation.format(scope, which), 1, place)
        # Their batch norm has no scale, and a few copies of the script have one.
        gamma = variables(naming.normalisation.format(scope, "gamma"))
        scale = torch.ones(weight.shape[0]) if gamma is None else torch.from_numpy(gamma.astype(np.float32))
        yield f"{ours}.bn.weight", scale
    weight = _tensor(variables, naming.classifier.format("weights"), 4, place)
    yield "fc.weight", weight[0, 0].T.contiguous()
    yield "fc.bias", _tensor(variables, naming.classifier.format("biases"), 1, place)


def _tensor(variables: Variables, name: str, dimensions: int, place: str) -> Tensor:
    array = variables(name)
    if array is None:
        raise InputError(f"{place} lack the variable {name}; only Inception-v1 is known of this format")
    if array.ndim != dimensions or array.dtype.kind != "f" or not array.size:
        raise InputError(f"{place}: {name} holds {array.dtype} {array.shape}, and Inception-v1 has floats there")
    return torch.from_numpy(array.astype(np.float32))
