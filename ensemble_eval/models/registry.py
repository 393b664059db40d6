"""From an architecture's name to a network: one literal dict, and `python:` callables behind a trust flag."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ensemble_eval.errors import InputError, refusing
from ensemble_eval.models import googlenet
from ensemble_eval.models.layers import Variant

ARCHITECTURES: dict[str, Variant] = {
    "googlenet": googlenet.TORCHVISION,
    "googlenet-paper": googlenet.PAPER,
    "googlenet-naive": googlenet.NAIVE,
    "googlenet-tensorflow": googlenet.TENSORFLOW,
    "googlenet-paddle": googlenet.PADDLE,
}
PYTHON_PREFIX = "python:"
_OPTIONS = ("width", "dropout", "auxiliary_dropout")


def build(arch: str, num_classes: int, *, auxiliary_heads: bool = False, **options: Any) -> nn.Module:
    """Build a network of the registry with fresh weights (drawn from torch's global generator).

    Args:
        arch: a key of `ARCHITECTURES`.
        num_classes: outputs of the classifier.
        auxiliary_heads: add the two training-time heads of Figure 3.
        options: `width` (> 0, default 1.0), `dropout`, `auxiliary_dropout` (both in [0, 1)).

    Raises:
        InputError: unknown architecture or option, or an impossible value.
    """
    if arch not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"unknown architecture {arch!r}; known are {known}, or python:package.module:callable")
    _check_options(arch, options)
    if num_classes < 1:
        raise InputError(f"{arch}: a network needs at least one class, not {num_classes}")
    return googlenet.GoogLeNet(ARCHITECTURES[arch], num_classes, auxiliary_heads=auxiliary_heads, **options)


def build_python(arch: str, options: Mapping[str, Any]) -> nn.Module:
    """Call the installed callable that `python:package.module:callable` names and return its network.

    This imports and runs code of that package: callers ask for the user's trust first.

    Raises:
        InputError: it cannot be imported, does not accept the options, or returns no torch module.
    """
    module_name, _, attributes = arch.removeprefix(PYTHON_PREFIX).partition(":")
    if not module_name or not attributes:
        raise InputError(f"{arch!r} is not of the form python:package.module:callable")
    remedy = "install the package or fix the name"
    with refusing(f"{arch} cannot be imported", remedy, ImportError, AttributeError):
        target: Any = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            target = getattr(target, attribute)
    with refusing(f"{arch} does not accept the manifest's options", "", TypeError, ValueError):
        inspect.signature(target).bind(**options)
    network = target(**options)
    if not isinstance(network, nn.Module):
        raise InputError(f"{arch} returned {type(network).__name__}, not a torch.nn.Module")
    return network


def _check_options(arch: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in _OPTIONS:
            raise InputError(f"{arch}: unknown option {name!r}; known are {', '.join(_OPTIONS)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{arch}: option {name} is a number, not {value!r}")
        if name == "width" and not 0 < value <= 16:
            raise InputError(f"{arch}: width is above 0 and at most 16, not {value}")
        if name != "width" and not 0 <= value < 1:
            raise InputError(f"{arch}: {name} is at least 0 and below 1, not {value}")
