"""Which of our architectures a state dict is of, and how wide: told by names and shapes, never by values."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ensemble_eval.models.stages import STAGES, Convolution, Inception, scaled

_DIGITS = 9


def architecture_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The registry's name of the architecture that tensors are of; None where it has none.

    Example:
        >>> from ensemble_eval.models.registry import build
        >>> architecture_of(build("googlenet-paper", 3, width=0.1).state_dict())
        'googlenet-paper'
    """
    if "conv1.conv.weight" not in tensors or "fc.weight" not in tensors:
        return None
    if "inception3a.branch2.conv.weight" in tensors:
        return "googlenet-naive"
    large = tensors.get("inception3a.branch3.1.conv.weight")
    if large is None or large.dim() != 4:
        return None
    normalised, biased = "conv1.bn.running_mean" in tensors, "conv1.conv.bias" in tensors
    match normalised, biased, large.shape[-1]:
        case True, False, 3:
            return "googlenet"
        case False, True, 5:
            return "googlenet-paper"
        case False, False, 5:
            return "googlenet-paddle"
    return None


def options_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that give a network of one of our architectures the shapes of these tensors.

    A width is the shortest decimal number that gives every stage its channels; where none does, there are no
    options, and fitting the tensors says which shape is wrong.

    Example:
        >>> from ensemble_eval.models.registry import build
        >>> options_of(build("googlenet", 3, width=0.25).state_dict())
        {'width': 0.25}
    """
    counts = [(full, tensors[name].shape[0]) for name, full in _channels() if name in tensors]
    if all(full == count for full, count in counts):
        return {}
    low = max((count - 0.5) / full if count > 1 else 0.0 for full, count in counts)
    high = min((count + 0.5) / full for full, count in counts)
    for digits in range(1, _DIGITS):
        unit = 10.0**-digits
        for width in (round((low + high) / 2, digits), round(math.ceil(low / unit) * unit, digits)):
            if 0 < width <= 16 and all(scaled(full, width) == count for full, count in counts):
                return {"width": width}
    return {}


def _channels() -> Iterator[tuple[str, int]]:
    """Each convolution that every variant has, with its channels at width 1."""
    for stage in STAGES:
        match stage:
            case Convolution(name, _, _, channels):
                yield f"{name}.conv.weight", channels
            case Inception(name, conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_projection):
                yield f"{name}.branch1.conv.weight", conv1x1
                yield f"{name}.branch2.0.conv.weight", reduce3x3
                yield f"{name}.branch2.1.conv.weight", conv3x3
                yield f"{name}.branch3.0.conv.weight", reduce5x5
                yield f"{name}.branch3.1.conv.weight", conv5x5
                yield f"{name}.branch4.1.conv.weight", pool_projection
                yield f"{name}.branch2.conv.weight", conv3x3
                yield f"{name}.branch3.conv.weight", conv5x5
