"""What a file of weights says about its member; and safetensors of ours, which describe what they hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ensemble_eval import toml_tables
from ensemble_eval.errors import InputError, refusing
from ensemble_eval.files import sha256_of, write_atomically
from ensemble_eval.locations import local_copy, location
from ensemble_eval.members.classes import IMAGENET_1K, ClassList, class_list
from ensemble_eval.members.imported import BACKGROUND_FIRST, Imported, InputFormat

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "ensemble_eval"
# Fields of a member's input that must be given, because nothing is guessed.
_REQUIRED = ("channels", "scale", "mean", "std")


@dataclass(frozen=True)
class MemberTable:
    """A member as the table `[[members]]` of a manifest states it, or a file of ours."""

    name: str
    weights: str
    arch: str | None = None
    input: Mapping[str, Any] | None = None
    outputs: str | None = None
    renormalise: bool | None = None
    averaged: bool | None = None
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    protocol: str | None = None

    def input_format(self, place: str) -> InputFormat | None:
        """The table's `input`, checked; `place` begins every complaint."""
        if self.input is None:
            return None
        return toml_tables.fill(InputFormat, self.input, f"{place}, input", required=_REQUIRED)

    def outputs_in(self, folder: Path) -> str | Path | None:
        """The table's `outputs`, a relative path of which starts at `folder`."""
        return self.outputs if self.outputs in (None, BACKGROUND_FIRST) else folder / location(self.outputs)


def save_described(
    path: Path, tensors: "Mapping[str, Tensor]", description: Mapping[str, Any], kind: str = ""
) -> str:
    """Write tensors with what they are, as a whole or not at all; return the file's SHA-256 in hexadecimal.

    Args:
        path: of the file.
        tensors: by name.
        description: JSON values.
        kind: what the tensors are, for readers to tell; empty for a member's weights.

    Raises:
        InputError: the folder or disk does not take the file.
    """
    # Only here: reading a description needs no torch.
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(stored, metadata={_key(kind): json.dumps(description)}))
    return sha256_of(path)


def read_described(path: Path, kind: str, what: str) -> tuple[dict[str, "Tensor"], Mapping[str, Any]]:
    """The tensors and the description that `save_described` wrote; empty where the file holds something else.

    Args:
        path: of the file.
        kind: as it was written.
        what: to call it in messages.

    Raises:
        InputError: the file is missing or damaged.
    """
    unreadable = refusing(f"{what} {path} cannot be read", "check the path", SafetensorError, OSError)
    with unreadable, safe_open(local_copy(path), framework="pt") as file:
        text = (file.metadata() or {}).get(_key(kind))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    try:
        description = json.loads(text or "")
    except ValueError:
        return {}, {}
    return (tensors, description) if isinstance(description, dict) else ({}, {})


def is_described(path: Path) -> bool:
    """Whether a file is safetensors that say what network and preprocessing they are for."""
    try:
        return path.is_file() and _key() in _metadata(path)
    except InputError:
        return False


def member_description(path: Path) -> tuple[dict[str, Any], ClassList]:
    """The table and the classes of the member that a safetensors file describes.

    Raises:
        InputError: the file is no safetensors or carries no description.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; remove it, or name the weights in a manifest")
    metadata = _metadata(path)
    try:
        description = json.loads(metadata[_key()])
        names = description["classes"]
        table = dict(description["member"])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} does not say what network and preprocessing it is for; "
            "describe it in a manifest and give that as `ensemble`"
        ) from error
    return {**table, "weights": path.name}, _classes(names, path)


def describe(path: Path, *, averaged: bool | None = None) -> Imported:
    """What a file of weights says about its member, without its tensors.

    Args:
        path: of the file.
        averaged: which of raw and averaged weights is meant, where both may be there.

    Raises:
        InputError: the file is missing, damaged, or of no format that is known.
    """
    if not is_described(path):
        # Only here: our own files say all of this without torch.
        from ensemble_eval.members.importers.opening import read_weights

        return replace(read_weights(path, averaged=averaged), tensors={})
    table, classes = member_description(path)
    member = toml_tables.fill(MemberTable, table, str(path))
    outputs = member.outputs_in(path.absolute().parent)
    return Imported(
        format="safetensors that describe themselves",
        arch=member.arch,
        options=member.options,
        input=member.input_format(str(path)),
        outputs=None if outputs is None else str(outputs),
        num_outputs=classes.count + (outputs is not None),
    )


def _key(kind: str = "") -> str:
    return f"{_KEY}_{kind}" if kind else _KEY


def _metadata(path: Path) -> Mapping[str, str]:
    damage = refusing(f"{path} is not a readable safetensors file", "", SafetensorError, OSError)
    with damage, safe_open(local_copy(path), framework="np") as file:
        return file.metadata() or {}


def _classes(names: object, path: Path) -> ClassList:
    if names == IMAGENET_1K:
        return class_list(IMAGENET_1K)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: its class list is damaged; describe it in a manifest instead")
    return ClassList(str(path), len(names), tuple(names))
