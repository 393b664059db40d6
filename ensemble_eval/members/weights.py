"""From a file of weights to tensors by name, without ever running code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ensemble_eval.errors import InputError, first_line, first_names
from ensemble_eval.files import sha256_of


def load_state_dict(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a file of `torch.save`, told apart by content.

    Raises:
        InputError: missing, truncated, of another SHA-256, or anything but tensors by name.
    """
    _require_file(path)
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        raise InputError(
            f"the weights {path} have the SHA-256 {actual}, the manifest says {sha256}; get the right file"
        )
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9:
        raise InputError(f"the weights {path} are damaged or truncated ({len(head)} bytes); get the file again")
    # A safetensors file starts with the length of its JSON header, then the header.
    if head[8:] == b"{":
        return _load_safetensors(path)
    return _load_pickle(path)


def weights_sha256(path: Path) -> str:
    """The SHA-256 of a file of weights.

    Raises:
        InputError: there is none.
    """
    _require_file(path)
    return sha256_of(path)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path in the manifest")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"the weights {path} are damaged or truncated ({error}); get the file again") from error


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # An open file, because torch would go by the suffix of a path.
        with path.open("rb") as file:
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
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
    if not _is_state_dict(content):
        raise InputError(
            f"the weights {path} are not a plain state dict ({_describe(content)}); "
            "save the network's state_dict() alone"
        )
    return dict(content)


def _is_state_dict(content: object) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        for name, value in content.items()
    )


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"its entries are {first_names([str(key) for key in content])}"
    return f"it holds a {type(content).__name__}"
