"""Files of `torch.save` and safetensors: torchvision's checkpoints, and those of training scripts."""

import argparse
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ensemble_eval.errors import InputError, first_line
from ensemble_eval.members.importers import torchvision_weights
from ensemble_eval.members.importers.checkpoints import StateDict, state_dict_of
from ensemble_eval.members.importers.imported import Imported
from ensemble_eval.members.importers.layouts import architecture_of, options_of
from ensemble_eval.models.stages import without_auxiliary_heads

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_IMAGENET_CLASSES = 1000
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


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
        names: see `state_dict_of`.

    Raises:
        InputError: the file is damaged, or holds anything but tensors, or not the weights asked for.
    """
    with path.open("rb") as file:
        safe = is_safetensors(file.read(9))
    content = load_safetensors(path) if safe else load_pickle(path)
    found = state_dict_of(content, f"the weights {path}", averaged=averaged, names=names)
    return _described(found, path, "safetensors" if safe else "a file of torch.save")


def _described(found: StateDict, path: Path, file_format: str) -> Imported:
    tensors = without_auxiliary_heads(found.tensors)
    arch = architecture_of(tensors)
    if arch is None:
        return Imported(format=file_format, notes=found.notes, tensors=found.tensors)
    options, outputs = options_of(tensors), len(tensors["fc.weight"])
    # To be told by its hash, a file must be read once more: only where it can be the published one.
    full = arch == "googlenet" and not options and outputs == _IMAGENET_CLASSES
    published = torchvision_weights.recognised(path) if full else None
    return Imported(
        format=file_format,
        arch=arch,
        options=options,
        input=published.input if published else None,
        num_outputs=outputs,
        published=published.accuracy if published else None,
        notes=found.notes,
        tensors=tensors,
    )


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"the weights {path} are damaged or truncated ({first_line(error)}); get the file again"
        ) from error


def load_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds, if that is tensors and plain values alone.

    Raises:
        InputError: it is damaged, or holds objects that only code could make.
    """
    try:
        # An open file, because torch would go by the suffix of a path. Training scripts save their arguments
        # too: a plain table of values, whose class does nothing when it is made.
        with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own sentence would advise loading it without the protection; it is not passed on.
        raise InputError(
            f"the weights {path} hold more than tensors, or are no weights at all; nothing in them was run: "
            "save the network's state_dict() alone, best as safetensors"
        ) from error
    except Exception as error:
        # torch.load reports damage with whatever its layers happen to raise, assertions and struct's errors too.
        raise InputError(
            f"the weights {path} are damaged or truncated ({first_line(error)}); get the file again"
        ) from error
