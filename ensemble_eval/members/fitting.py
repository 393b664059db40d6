"""From tensors by name into a network, strict about names, shapes, types and finiteness."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ensemble_eval.errors import InputError, first_names

# A counter that only training reads; weights converted from other frameworks do not have it.
_TRAINING_COUNTER = "num_batches_tracked"


def fit(network: nn.Module, tensors: Mapping[str, Tensor], *, weights: str, arch: str) -> None:
    """Load tensors into a network, in place, in the network's own precision.

    Args:
        network: to load into.
        tensors: by the names of the network's state dict; counters that only training reads may be missing.
        weights: what to call the tensors in messages.
        arch: what to call the network in messages.

    Raises:
        InputError: names that are missing or too many, another shape or kind of number, NaN or infinity.
    """
    expected = network.state_dict()
    _refuse_other_names(expected, tensors, weights, arch)
    for name, tensor in tensors.items():
        _refuse_other_tensor(expected[name], tensor, f"{weights}: {name}", arch)
    network.load_state_dict(tensors, strict=False)  # the strictness above has better sentences


def _refuse_other_names(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], weights: str, arch: str
) -> None:
    needed = [name for name in expected if not name.endswith(_TRAINING_COUNTER)]
    if missing := [name for name in needed if name not in given]:
        raise InputError(
            f"{weights} lacks {len(missing)} of the keys of {arch}: {first_names(missing)}; check arch and options"
        )
    if unexpected := [name for name in given if name not in expected]:
        raise InputError(
            f"{weights} has {len(unexpected)} keys that {arch} does not have: {first_names(unexpected)}; "
            "check arch and options"
        )


def _refuse_other_tensor(expected: Tensor, given: Tensor, place: str, arch: str) -> None:
    if given.shape != expected.shape:
        raise InputError(
            f"{place} has the shape {tuple(given.shape)}, and {arch} with these options "
            f"and classes needs {tuple(expected.shape)}; check options and classes"
        )
    if given.is_floating_point() != expected.is_floating_point():
        raise InputError(f"{place} holds {given.dtype}; save the weights as floating point")
    if not bool(torch.isfinite(given).all()):
        raise InputError(f"{place} holds NaN or infinity; the weights are spoilt, get others")
