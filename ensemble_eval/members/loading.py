"""A member's network, ready for a backend, wherever it comes from."""

import copy

from torch import nn

from ensemble_eval.errors import InputError, first_line
from ensemble_eval.members.building import build
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.members.fitting import fit
from ensemble_eval.members.weights import load_state_dict
from ensemble_eval.models.registry import ARCHITECTURES
from ensemble_eval.models.stages import without_auxiliary_heads


def load_member(member: Member, num_classes: int, *, trust_python: bool = False) -> nn.Module:
    """A member's network: normalised float32 [B, 3, H, W] -> logits, on the CPU, in eval mode.

    It belongs to the caller, who may change it: a network in memory is copied. Auxiliary heads of our own
    architectures are left out: they serve training only.

    Args:
        member: with weights or a network; not one with a predict function.
        num_classes: outputs of a network of the registry.
        trust_python: whether a `python:` architecture may import and run installed code.

    Raises:
        InputError: weights that are missing, damaged, of another hash, or do not fit the network exactly;
            a `python:` architecture without `trust_python`; a network that cannot be copied.
    """
    if member.network is not None:
        return _copied(member.network, member.name)
    network = build(member, num_classes, trust_python=trust_python)
    path = weights_of(member)
    tensors = load_state_dict(path, member.sha256)
    if member.arch in ARCHITECTURES:
        tensors = without_auxiliary_heads(tensors)
    fit(network, tensors, weights=f"member {member.name}: {path}", arch=member.arch)
    return network.eval()


def _copied(network: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(network).cpu().float().eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"member {name}: its network cannot be copied ({first_line(error)}); give `predict` and `fingerprint`"
        ) from error
