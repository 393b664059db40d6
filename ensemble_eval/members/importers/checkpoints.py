"""From what a training script saved to one state dict: containers, averaged weights and wrappers' prefixes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ensemble_eval.errors import InputError, first_names

# Under these names training scripts keep the weights as trained, and their moving average; in order of preference.
_RAW = ("state_dict", "model", "model_state_dict", "net")
_AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
# What DataParallel, torch.compile and Lightning put before each key of the network that they wrap.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# `AveragedModel` counts the steps that it averaged.
_AVERAGED_COUNTER = "n_averaged"


@dataclass(frozen=True)
class StateDict:
    """The tensors of one network, and what the user should know of how they were found."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def state_dict_of(
    content: object, place: str, *, averaged: bool | None = None, names: Collection[str] = ()
) -> StateDict:
    """The one state dict that a training script's file holds.

    Args:
        content: of the file: a state dict, or a mapping that holds one and whatever else.
        place: the file, for messages.
        averaged: which of raw and averaged weights to take; None for the averaged where both are there.
        names: of the network that the tensors are for; prefixes that it has itself stay.

    Raises:
        InputError: there is no state dict, or not the one asked for.
    """
    raw, average = _found(content, place)
    if averaged and average is None:
        raise InputError(f"{place} hold no averaged weights; leave `averaged` out")
    if averaged is False and raw is None:
        raise InputError(f"{place} hold averaged weights alone; leave `averaged` out")
    notes: tuple[str, ...] = ()
    if raw is not None and average is not None and averaged is None:
        notes = (
            f"{place} hold raw and averaged weights; the averaged are used (`averaged = false` takes the raw)",
        )
    taken = raw if average is None or averaged is False else average
    assert taken is not None
    return StateDict(_without_prefixes(taken, names), notes)


def _found(content: object, place: str) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """The raw and the averaged state dict in a file's content."""
    if (flat := _as_state_dict(content)) is not None:
        return _split(flat)
    if not isinstance(content, Mapping):
        raise InputError(_no_state_dict(content, place))
    raw = next((found for name in _RAW if (found := _as_state_dict(content.get(name))) is not None), None)
    average = next((found for name in _AVERAGED if (found := _nested(content.get(name))) is not None), None)
    if raw is None and average is None:
        raise InputError(_no_state_dict(content, place))
    if raw is not None and average is None and _AVERAGED_COUNTER in raw:
        return None, raw
    return raw, average


def _split(flat: dict[str, Tensor]) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """A flat state dict is one network's, or holds two under prefixes, as safetensors must."""
    if _AVERAGED_COUNTER in flat:
        return None, flat
    for average in _AVERAGED:
        ours = {name: value for name, value in flat.items() if name.startswith(f"{average}.")}
        if ours:
            rest = {name: value for name, value in flat.items() if name not in ours}
            shortened = {name.removeprefix(f"{average}."): value for name, value in ours.items()}
            return rest or None, shortened
    return flat, None


def _nested(content: Any) -> dict[str, Tensor] | None:
    """A state dict, or one inside a container such as an average's own state."""
    if (found := _as_state_dict(content)) is not None:
        return found
    if isinstance(content, Mapping):
        return next((found for name in _RAW if (found := _as_state_dict(content.get(name))) is not None), None)
    return None


def _as_state_dict(content: object) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or not content:
        return None
    plain = all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        for name, value in content.items()
    )
    return dict(content) if plain else None


def _without_prefixes(tensors: dict[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    tensors = {name: value for name, value in tensors.items() if name != _AVERAGED_COUNTER}
    while tensors and not any(name in names for name in tensors):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _no_state_dict(content: object, place: str) -> str:
    if isinstance(content, Mapping):
        described = f"its entries are {first_names([str(key) for key in content])}"
    else:
        described = f"it holds a {type(content).__name__}"
    return f"{place} are not a plain state dict ({described}); save the network's state_dict() alone"
