"""Our architectures by the names and shapes of their tensors, never by values.

The importers of other frameworks' GoogLeNets find here what each convolution is called with us.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from torch import Tensor

from ensemble_eval.members.imported import BACKGROUND_FIRST, Imported, InputFormat
from ensemble_eval.models.stages import STAGES, Convolution, Inception, scaled

_DIGITS = 9
_IMAGENET_CLASSES = 1000
# The six convolutions of a module, as Table 1 of the paper names its columns, by our names, in order.
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_projection": "branch4.1",
}


@dataclass(frozen=True)
class NamedConvolution:
    """One convolution of GoogLeNet's trunk.

    Attributes:
        ours: the name of its unit in our state dict.
        stage: the row of Table 1, such as `3a` of a module or `conv1`.
        column: the column of Table 1 in a module; empty for the first three convolutions.
        channels: its outputs at width 1.
    """

    ours: str
    stage: str
    column: str
    channels: int


def convolutions() -> Iterator[NamedConvolution]:
    """The convolutions of GoogLeNet's trunk in order."""
    for stage in STAGES:
        match stage:
            case Convolution(name, _, _, channels):
                yield NamedConvolution(name, name, "", channels)
            case Inception():
                name, *columns = astuple(stage)
                for (column, branch), channels in zip(_BRANCHES.items(), columns, strict=True):
                    yield NamedConvolution(f"{name}.{branch}", name.removeprefix("inception"), column, channels)


def imported_googlenet(
    file_format: str,
    arch: str,
    tensors: Mapping[str, Tensor],
    *,
    wants: InputFormat,
    published: str,
    outputs: str | None = None,
) -> Imported:
    """A GoogLeNet of a format that leaves no doubt of its architecture; see `Imported`.

    Args:
        file_format, arch, tensors, outputs: see `Imported`.
        wants: its input.
        published: the accuracy of the one network of full width and ImageNet's classes.
    """
    options, num_outputs = options_of(tensors), len(tensors["fc.weight"])
    full = not options and num_outputs == _IMAGENET_CLASSES + (outputs == BACKGROUND_FIRST)
    return Imported(
        format=file_format,
        arch=arch,
        options=options,
        input=wants,
        outputs=outputs,
        num_outputs=num_outputs,
        certain=True,
        published=published if full else None,
        tensors=tensors,
    )


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
    # In the naive variant a 3×3 or 5×5 convolution has no reduction before it.
    named = {
        f"{name}.conv.weight": each.channels
        for each in convolutions()
        for name in (each.ours, each.ours.removesuffix(".1"))
    }
    counts = [(full, tensors[name].shape[0]) for name, full in named.items() if name in tensors]
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
