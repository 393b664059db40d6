"""Our architectures by the names and shapes of their tensors, never by values.

The importers of other frameworks' GoogLeNets find here what each convolution is called with us.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from torch import Tensor

from ensemble_eval.members.classes import WNIDS
from ensemble_eval.members.imported import BACKGROUND_FIRST, Imported
from ensemble_eval.models.stages import STAGES, Convolution, Inception, scaled

_DIGITS = 9
# Our names of the six convolutions of a module, in the order of Table 1's columns, and the paper's of the modules.
_BRANCHES = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
_MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
# By whether there is batch norm, whether convolutions have biases, and the size of the largest in a module.
_ARCHITECTURES = {
    (True, False, 3): "googlenet",
    (False, True, 5): "googlenet-paper",
    (False, False, 5): "googlenet-paddle",
}


def trunk_names(
    stem: tuple[str, str, str], module: str, columns: Sequence[str], modules: Sequence[str] = _MODULES
) -> dict[str, str]:
    """Another framework's names of the convolutions of GoogLeNet's trunk, by our names, in order.

    Args:
        stem: of the three convolutions before the first module.
        module: of a convolution in a module, with places for the module and for the column.
        columns: of the six columns of Table 1.
        modules: of the nine modules.

    Example:
        >>> names = trunk_names(("a", "b", "c"), "inception_{}/{}", ("1x1", "3x3r", "3x3", "5x5r", "5x5", "pool"))
        >>> names["conv1"], names["inception3a.branch2.1"]
        ('a', 'inception_3a/3x3')
    """
    theirs = [*stem, *(module.format(row, column) for row in modules for column in columns)]
    return dict(zip((ours for ours, _ in _convolutions()), theirs, strict=True))


def imported_googlenet(found: Imported) -> Imported:
    """A GoogLeNet of a format that leaves no doubt of its architecture, with its options and number of outputs.

    Args:
        found: what the format says; `published` of the network of full width with ImageNet's classes.
    """
    options, num_outputs = options_of(found.tensors), len(found.tensors["fc.weight"])
    full = not options and num_outputs == len(WNIDS) + (found.outputs == BACKGROUND_FIRST)
    published = found.published if full else None
    return replace(found, options=options, num_outputs=num_outputs, certain=True, published=published)


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
    return _ARCHITECTURES.get((normalised, biased, large.shape[-1]))


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
        f"{name}.conv.weight": channels
        for ours, channels in _convolutions()
        for name in (ours, ours.removesuffix(".1"))
    }
    counts = [(full, tensors[name].shape[0]) for name, full in named.items() if name in tensors]
    if all(full == count for full, count in counts):
        return {}
    low = max((count - 0.5) / full if count > 1 else 0.0 for full, count in counts)
    high = min((count + 0.5) / full for full, count in counts)
    for digits in range(1, _DIGITS):
        width = round((low + high) / 2, digits)
        if 0 < width <= 16 and all(scaled(full, width) == count for full, count in counts):
            return {"width": width}
    return {}


def _convolutions() -> Iterator[tuple[str, int]]:
    """Our name of each convolution of the trunk, in order, and its channels at width 1."""
    for stage in STAGES:
        match stage:
            case Convolution(name, _, _, channels):
                yield name, channels
            case Inception():
                name, *columns = astuple(stage)
                yield from ((f"{name}.{branch}", count) for branch, count in zip(_BRANCHES, columns, strict=True))
