"""Weights into networks: strict about keys, shapes, hashes and finiteness, and never running code."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ensemble_eval.errors import InputError
from ensemble_eval.files import sha256_of
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.models import registry

_AUXILIARY_PREFIXES = ("aux1.", "aux2.")
# A counter that only training reads; weights converted from other frameworks do not have it.
_TRAINING_COUNTER = "num_batches_tracked"
# What these put before each key of the network that they wrap.
_WRAPPERS = {"module.": "DataParallel or DistributedDataParallel", "_orig_mod.": "torch.compile"}
_NAMED_AT_MOST = 3


def load_member(member: Member, num_classes: int, *, trust_python: bool = False) -> nn.Module:
    """Build a member's network and load its weights into it, in float32, on the CPU, in eval mode.

    Auxiliary heads in the weights are left out: they serve training only.

    Raises:
        InputError: weights that are missing, damaged, of another hash, or do not fit the network exactly;
            a `python:` architecture without `trust_python`.
    """
    network = _build(member, num_classes, trust_python=trust_python)
    state_dict = load_state_dict(weights_of(member), member.sha256)
    if member.arch in registry.ARCHITECTURES:
        state_dict = {k: v for k, v in state_dict.items() if not k.startswith(_AUXILIARY_PREFIXES)}
    _refuse_misfit(member, network.state_dict(), state_dict)
    network.load_state_dict(state_dict, strict=False)  # strictness is _refuse_misfit's, with better sentences
    return network.eval()


def load_state_dict(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a file of `torch.save`, told apart by content.

    Raises:
        InputError: missing, truncated, of another SHA-256, or anything but tensors by name.
    """
    if (actual := weights_sha256(path)) != sha256 and sha256 is not None:
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
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path in the manifest")
    return sha256_of(path)


def tensors_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors and their names, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _build(member: Member, num_classes: int, *, trust_python: bool) -> nn.Module:
    if not member.arch.startswith(registry.PYTHON_PREFIX):
        return registry.build(member.arch, num_classes, **member.options)
    if not trust_python:
        raise InputError(
            f"member {member.name} runs installed code ({member.arch}); add --trust-python if you trust it"
        )
    return registry.build_python(member.arch, member.options)


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
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, IndexError) as error:
        # torch.load reports damage with whichever of these its layers happen to raise.
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"the weights {path} are damaged or truncated ({reason}); get the file again") from error
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
        return f"its entries are {_named([str(key) for key in content])}"
    return f"it holds a {type(content).__name__}"


def _refuse_misfit(member: Member, expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    place = f"member {member.name}: {member.weights}"
    needed = [name for name in expected if not name.endswith(_TRAINING_COUNTER)]
    for prefix, wrapper in _WRAPPERS.items():
        if given and all(name.startswith(prefix) for name in given):
            raise InputError(
                f"{place} holds the keys of a network inside {wrapper}: each begins with {prefix!r}; "
                "save the state dict of the network inside it"
            )
    if missing := [name for name in needed if name not in given]:
        raise InputError(
            f"{place} lacks {len(missing)} of the keys of {member.arch}: {_named(missing)}; check arch and options"
        )
    if unexpected := [name for name in given if name not in expected]:
        raise InputError(
            f"{place} has {len(unexpected)} keys that {member.arch} does not have: "
            f"{_named(unexpected)}; check arch and options"
        )
    for name in given:
        if given[name].shape != expected[name].shape:
            raise InputError(
                f"{place}: {name} has the shape {tuple(given[name].shape)}, and {member.arch} with these options "
                f"and classes needs {tuple(expected[name].shape)}; check options and classes"
            )
        if given[name].is_floating_point() != expected[name].is_floating_point():
            raise InputError(f"{place}: {name} holds {given[name].dtype}; save the weights as floating point")
        if not bool(torch.isfinite(given[name]).all()):
            raise InputError(f"{place}: {name} holds NaN or infinity; the weights are spoilt, get others")


def _named(names: list[str]) -> str:
    more = ", …" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
