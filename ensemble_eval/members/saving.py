"""Weights as safetensors that carry their member's description, so that a folder of them is an ensemble."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ensemble_eval.errors import InputError
from ensemble_eval.files import sha256_of, write_atomically
from ensemble_eval.members.ensemble import IMAGENET_1K, ClassList, Member, class_list
from ensemble_eval.members.manifest import member_from_table, member_table

if TYPE_CHECKING:
    from torch import Tensor

_METADATA_KEY = "ensemble_eval"
# A safetensors file starts with the length of its JSON header, then the header.
_HEADER_LENGTH_BYTES = 8


def save_weights(path: Path, state_dict: "Mapping[str, Tensor]", member: Member, classes: ClassList) -> str:
    """Write a state dict with its member's description to `path` as a whole or not at all.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        InputError: the folder or disk does not take the file.
    """
    # Only here: describing a member, and reading such a description, need no torch.
    from safetensors.torch import save

    description = {
        "member": member_table(member, path.name),
        "classes": IMAGENET_1K if classes.names is None else list(classes.names),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    write_atomically(path, save(tensors, metadata={_METADATA_KEY: json.dumps(description)}))
    return sha256_of(path)


def is_described(path: Path) -> bool:
    """Whether a file is safetensors that say what network and preprocessing they are for."""
    try:
        with path.open("rb") as file:
            if file.read(_HEADER_LENGTH_BYTES + 1)[_HEADER_LENGTH_BYTES:] != b"{":
                return False
        with safe_open(path, framework="np") as described:
            return _METADATA_KEY in (described.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_member(path: Path) -> tuple[Member, ClassList]:
    """The member and classes that `save_weights` described in a safetensors file.

    Raises:
        InputError: the file is no safetensors or carries no description.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; remove it, or name the weights in a manifest")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error})") from error
    try:
        description = json.loads(metadata[_METADATA_KEY])
        names = description["classes"]
        row = dict(description["member"])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} does not say what network and preprocessing it is for; "
            "describe it in a manifest and give that as `ensemble`"
        ) from error
    return member_from_table({**row, "weights": path.name}, path.absolute().parent, str(path)), _classes(
        names, path
    )


def _classes(names: object, path: Path) -> ClassList:
    if names == IMAGENET_1K:
        return class_list(IMAGENET_1K)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: its class list is damaged; describe it in a manifest instead")
    return ClassList(str(path), len(names), tuple(names))
