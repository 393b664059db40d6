"""Tensors in a safetensors file of ours that says what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ensemble_eval.errors import InputError, first_line
from ensemble_eval.files import sha256_of, write_atomically


def write_described(path: Path, tensors: Mapping[str, Tensor], kind: str, description: Mapping[str, Any]) -> str:
    """Write tensors with their description, as a whole or not at all; return the file's SHA-256 in hexadecimal.

    Args:
        path: of the file.
        tensors: by name.
        kind: what they are, for readers to tell.
        description: further facts, as JSON values.

    Raises:
        InputError: the folder or disk does not take the file.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(stored, metadata={_key(kind): json.dumps(description)}))
    return sha256_of(path)


def read_described(path: Path, kind: str, what: str) -> tuple[dict[str, Tensor], Mapping[str, Any]] | None:
    """The tensors and the description of a file; None where it holds something else.

    Args:
        path: of the file.
        kind: as it was written.
        what: to call it in messages.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_key(kind))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{what} {path} cannot be read ({first_line(error)}); check the path") from error
    try:
        description = json.loads(text or "")
    except ValueError:
        return None
    return (tensors, description) if isinstance(description, dict) else None


def _key(kind: str) -> str:
    return f"ensemble_eval_{kind}"
