"""Fingerprints of members, which the key of a run holds: they do not depend on the members' names."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ensemble_eval.errors import InputError, located
from ensemble_eval.files import sha256_of
from ensemble_eval.members.ensemble import Member


def member_sha256(member: Member) -> str:
    """The SHA-256 of what a member's predictions come from, in hexadecimal.

    It is that of the file of weights, and of how its outputs are read where that is stated; or of all parameters
    and buffers of a network in memory, and of its class; or of a predict function's `fingerprint`.

    Raises:
        InputError: there is no such file, a tensor whose bytes cannot be read, or no fingerprint.
    """
    if member.network is not None:
        with located(f"member {member.name}"):
            tensors = network_sha256(member.network)
        return hashlib.sha256(f"{member.arch} {tensors}".encode()).hexdigest()
    if member.predict is None:
        return _with_statements(_file_sha256(member.weights_file), member)
    if member.fingerprint is None:
        raise InputError(
            f"member {member.name}: a predict function has no weights to tell it by; give `fingerprint`, a text "
            "that changes whenever the function would return something else"
        )
    return hashlib.sha256(member.fingerprint.encode()).hexdigest()


def _with_statements(sha256: str, member: Member) -> str:
    """The fingerprint of a member that states neither is that of its file alone, as in earlier versions."""
    if member.outputs is None and member.averaged is None:
        return sha256
    order = _file_sha256(member.outputs) if isinstance(member.outputs, Path) else member.outputs
    statements = f"{sha256} averaged {member.averaged} outputs {order} renormalise {member.renormalise}"
    return hashlib.sha256(statements.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"the weights {path} do not exist; check the path in the manifest")
    return sha256_of(path)


def network_sha256(network: nn.Module) -> str:
    """The SHA-256 of all parameters and buffers: names, types, shapes and values, wherever they lie.

    Buffers that the state dict leaves out take part. Settings that are no tensors do not, such as a stride.

    Raises:
        InputError: a tensor that is sparse, quantised, or has no values yet.
    """
    digest = hashlib.sha256()
    parameters = network.named_parameters(remove_duplicate=False)
    buffers = network.named_buffers(remove_duplicate=False)
    for name, tensor in sorted({**dict(parameters), **dict(buffers)}.items()):
        _require_bytes(name, tensor)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_bytes(name: str, tensor: Tensor) -> None:
    if is_lazy(tensor) or tensor.is_meta:
        raise InputError(f"{name} has no values yet; run the network once, or load its weights")
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "quantised" if tensor.is_quantized else "sparse"
        raise InputError(f"{name} is {kind} and has no plain bytes; give `predict` and `fingerprint` instead")
