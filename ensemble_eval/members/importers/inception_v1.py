"""Google's own retraining of GoogLeNet, Inception-v1, as TF-slim and Keras name its variables."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import BACKGROUND_FIRST, Imported, InputFormat
from ensemble_eval.members.importers.layouts import NamedConvolution, convolutions, imported_googlenet

_STEM = {"conv1": "Conv2d_1a_7x7", "conv2": "Conv2d_2b_1x1", "conv3": "Conv2d_2c_3x3"}
_PUBLISHED = "69.8% top-1 and 89.6% top-5 (TF-slim's inception_v1)"
# TensorFlow's models see pixels from -1 to 1.
_PLUS_MINUS_ONE = InputFormat(scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_FLOATS = "f"
_MAX_BYTES = 1 << 29

# A variable's array by its name, or None.
Variables = Callable[[str], NDArray[np.float32] | None]


def scope(convolution: NamedConvolution) -> str:
    """Their name of the module that a convolution is in, or of the convolution where it is in none.

    Example:
        >>> scope(NamedConvolution("inception3a.branch1", "3a", "1x1", 64))
        'Mixed_3b'
    """
    stage = convolution.stage
    # Their modules are lettered from b.
    return f"Mixed_{stage[0]}{chr(ord(stage[1]) + 1)}" if convolution.column else _STEM[stage]


def imported(
    variables: Variables,
    file_format: str,
    names: Callable[[NamedConvolution], Mapping[str, str]],
    classifier: str,
    place: str,
) -> Imported:
    """The network whose variables are found under a framework's names.

    Args:
        variables: by name.
        file_format: a phrase for messages.
        names: of a convolution's variables: `weights`, `beta`, `gamma`, `moving_mean` and `moving_variance`.
        classifier: what the classifier's weights and biases are called, with `{}` for which of the two.
        place: the file, for messages.

    Raises:
        InputError: a variable is missing, or has another shape or kind of number.
    """
    variables = _bounded(variables, place)
    tensors = dict(_tensors(variables, names, place))
    weight = _array(variables, classifier.format("weights"), 4, place)
    tensors["fc.weight"] = torch.from_numpy(weight[0, 0].T.copy())
    tensors["fc.bias"] = torch.from_numpy(_array(variables, classifier.format("biases"), 1, place).copy())
    return imported_googlenet(
        file_format,
        "googlenet-tensorflow",
        tensors,
        wants=_PLUS_MINUS_ONE,
        published=_PUBLISHED,
        outputs=BACKGROUND_FIRST,
    )


def _bounded(variables: Variables, place: str) -> Variables:
    """Compressed zeros take no room in a file; in memory all variables together have a limit."""
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


def _tensors(
    variables: Variables, names: Callable[[NamedConvolution], Mapping[str, str]], place: str
) -> Iterator[tuple[str, Tensor]]:
    for convolution in convolutions():
        theirs = names(convolution)
        # Height, width, inputs, outputs there; outputs, inputs, height, width here.
        weight = _array(variables, theirs["weights"], 4, place).transpose(3, 2, 0, 1)
        yield f"{convolution.ours}.conv.weight", torch.from_numpy(weight.copy())
        for ours, name in (("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            values = _array(variables, theirs[name], 1, place)
            yield f"{convolution.ours}.bn.{ours}", torch.from_numpy(values.copy())
        # Their batch norm has no scale, and a few copies of the script have one.
        gamma = variables(theirs["gamma"])
        scale = torch.ones(weight.shape[0]) if gamma is None else torch.from_numpy(gamma.astype(np.float32))
        yield f"{convolution.ours}.bn.weight", scale


def _array(variables: Variables, name: str, dimensions: int, place: str) -> NDArray[np.float32]:
    array = variables(name)
    if array is None:
        raise InputError(f"{place} lack the variable {name}; only Inception-v1 is known of this format")
    if array.ndim != dimensions or array.dtype.kind != _FLOATS or not array.size:
        raise InputError(f"{place}: {name} holds {array.dtype} {array.shape}, and Inception-v1 has floats there")
    return array.astype(np.float32)
