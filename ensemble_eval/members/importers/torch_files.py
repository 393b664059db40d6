"""Files of `torch.save` and safetensors: torchvision's checkpoints, and those of training scripts."""

import argparse
import pickle
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ensemble_eval.errors import InputError, first_names
from ensemble_eval.members.classes import WNIDS
from ensemble_eval.members.imported import Imported, InputFormat, refusing_damage
from ensemble_eval.members.importers.layouts import architecture_of, imported_googlenet
from ensemble_eval.members.importers.published import torchvision_accuracy
from ensemble_eval.models.stages import without_auxiliary_heads

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Under these names training scripts keep the weights as trained, and their moving average; in order of preference.
_RAW = ("state_dict", "model", "model_state_dict", "net")
_AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
# What DataParallel, torch.compile and Lightning put before each key of the network that they wrap.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# `AveragedModel` counts the steps that it averaged.
_AVERAGED_COUNTER = "n_averaged"

_StateDict = dict[str, Tensor]


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors do: with the length of a JSON header, then the header."""
    return head[8:9] == b"{"


def is_torch(head: bytes) -> bool:
    """Whether a file begins as those of `torch.save` do, new or old."""
    return head.startswith(_ZIP) or (head.startswith(_PICKLE) and _OLD_TORCH in head[:32])


def read(path: Path, *, averaged: bool | None = None, names: Collection[str] = ()) -> Imported:
    """The one network of a file of `torch.save` or of safetensors.

    Args:
        path: of the file.
        averaged: which of raw and averaged weights to take; None for the averaged where both are there.
        names: of the network that the tensors are for; prefixes that it has itself stay.

    Raises:
        InputError: the file is damaged, or holds anything but tensors, or not the weights asked for.
    """
    with path.open("rb") as file:
        safe = is_safetensors(file.read(9))
    place = f"the weights {path}"
    raw, average = _found(_load_safetensors(path, place) if safe else _load_pickle(path, place), place)
    if averaged and average is None:
        raise InputError(f"{place} hold no averaged weights; leave `averaged` out")
    if averaged is False and raw is None:
        raise InputError(f"{place} hold averaged weights alone; leave `averaged` out")
    both = f"{place} hold raw and averaged weights; the averaged are used (`averaged = false` takes the raw)"
    notes = (both,) if raw is not None and average is not None and averaged is None else ()
    taken = raw if average is None or averaged is False else average
    assert taken is not None
    file_format = "safetensors" if safe else "a file of torch.save"
    return _imported(_without_prefixes(taken, names), path, file_format, notes)


def _imported(found: _StateDict, path: Path, file_format: str, notes: tuple[str, ...]) -> Imported:
    tensors = without_auxiliary_heads(found)
    arch = architecture_of(tensors)
    if arch is None:
        return Imported(format=file_format, notes=notes, tensors=found)
    known = imported_googlenet(Imported(format=file_format, arch=arch, notes=notes, tensors=tensors))
    # To compute its hash, a file must be read once more: only if it can be the published one.
    full = arch == "googlenet" and not known.options and known.num_outputs == len(WNIDS)
    accuracy = torchvision_accuracy(path) if full else None
    # It is True with these weights and False otherwise, and is in no state dict (pytorch/vision#4136).
    input_format = InputFormat(transform_input=True) if accuracy else None
    return replace(known, certain=False, published=accuracy, input=input_format)


def _load_safetensors(path: Path, place: str) -> _StateDict:
    with refusing_damage(place, SafetensorError, OSError, ValueError, KeyError, RuntimeError):
        return safetensors.torch.load_file(path)


def _load_pickle(path: Path, place: str) -> Any:
    """What a file of `torch.save` holds, if that is tensors and plain values alone."""
    # torch.load reports damage with whatever its layers happen to raise, assertions and struct's errors too.
    with refusing_damage(place):
        try:
            # An open file, because torch would go by the suffix of a path. Training scripts save their arguments
            # too: a plain table of values, whose class does nothing when it is made.
            with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch's own sentence would advise loading it without the protection; it is not passed on.
            raise InputError(
                f"{place} hold more than tensors, or are no weights at all; nothing in them was run: "
                "save the network's state_dict() alone, best as safetensors"
            ) from error


def _found(content: object, place: str) -> tuple[_StateDict | None, _StateDict | None]:
    """The raw and the averaged state dict in a file's content; one at least."""
    if (flat := _as_state_dict(content)) is not None:
        return _split(flat)
    containers = content if isinstance(content, Mapping) else {}
    raw = _nested(containers)
    nested = (_nested(containers.get(name)) for name in _AVERAGED)
    average = next((found for found in nested if found is not None), None)
    if raw is None and average is None:
        held = f"it holds a {type(content).__name__}"
        if isinstance(content, Mapping):
            held = f"its entries are {first_names([str(key) for key in content])}"
        raise InputError(f"{place} are not a plain state dict ({held}); save the network's state_dict() alone")
    if raw is not None and average is None and _AVERAGED_COUNTER in raw:
        return None, raw
    return raw, average


def _split(flat: _StateDict) -> tuple[_StateDict | None, _StateDict | None]:
    """A flat state dict is one network's, or holds two under prefixes, as safetensors must."""
    if _AVERAGED_COUNTER in flat:
        return None, flat
    for average in _AVERAGED:
        rest = {name: value for name, value in flat.items() if not name.startswith(f"{average}.")}
        if len(rest) < len(flat):
            ours = {name.removeprefix(f"{average}."): flat[name] for name in flat if name not in rest}
            return rest or None, ours
    return flat, None


def _nested(content: object) -> _StateDict | None:
    """A state dict, or one inside a container such as an average's own state."""
    if (found := _as_state_dict(content)) is not None or not isinstance(content, Mapping):
        return found
    inside = (_as_state_dict(content.get(name)) for name in _RAW)
    return next((found for found in inside if found is not None), None)


def _as_state_dict(content: object) -> _StateDict | None:
    if not isinstance(content, Mapping) or not content:
        return None
    plain = all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        for name, value in content.items()
    )
    return dict(content) if plain else None


def _without_prefixes(tensors: _StateDict, names: Collection[str]) -> _StateDict:
    tensors = {name: value for name, value in tensors.items() if name != _AVERAGED_COUNTER}
    while tensors and not any(name in names for name in tensors):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
