"""A member's network, ready for a backend, wherever it comes from."""

import copy
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from ensemble_eval.errors import InputError, first_line, located
from ensemble_eval.members.building import build
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.members.fitting import fit
from ensemble_eval.members.importers.imported import Imported
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.wording import input_text
from ensemble_eval.models.registry import ARCHITECTURES
from ensemble_eval.models.stages import without_auxiliary_heads


def load_member(
    member: Member,
    num_outputs: int,
    *,
    trust_python: bool = False,
    tell: Callable[[str], object] | None = None,
) -> nn.Module:
    """A member's network: normalised float32 [B, 3, H, W] -> logits, on the CPU, in eval mode.

    It belongs to the caller, who may change it: a network in memory is copied. Auxiliary heads of our own
    architectures are left out: they serve training only.

    Args:
        member: with weights or a network; not one with a predict function.
        num_outputs: outputs of a network of the registry.
        trust_python: whether a `python:` architecture may import and run installed code.
        tell: called with sentences that the user should see, such as which of two sets of weights was taken.

    Raises:
        InputError: weights that are missing, damaged, of another hash, or do not fit the network exactly;
            a `python:` architecture without `trust_python`; a network that cannot be copied.
    """
    if member.network is not None:
        return _copied(member.network, member.name)
    network = build(member, num_outputs, trust_python=trust_python)
    path = weights_of(member)
    found = read_weights(path, sha256=member.sha256, averaged=member.averaged, names=network.state_dict().keys())
    with located(f"member {member.name}"):
        _refuse_contradictions(member, found, num_outputs)
    if tell is not None:
        for note in (*found.notes, *_overruled(member, found)):
            tell(f"member {member.name}: {note}")
    tensors: Mapping[str, Tensor] = found.tensors
    if member.arch in ARCHITECTURES:
        tensors = without_auxiliary_heads(tensors)
    fit(network, tensors, weights=f"member {member.name}: {path}", arch=member.arch)
    return network.eval()


def _refuse_contradictions(member: Member, found: Imported, num_outputs: int) -> None:
    """Refuse what no statement can make right: another network than the file's, or other classes."""
    path = weights_of(member)
    if found.certain and member.arch != found.arch:
        raise InputError(
            f"the weights {path} are {found.format}, whose architecture is {found.arch}, "
            f"and `arch` says {member.arch}; leave it out"
        )
    if member.arch in ARCHITECTURES and found.num_outputs not in (None, num_outputs):
        raise InputError(
            f"the weights {path} have {found.num_outputs} outputs, and the ensemble's classes need {num_outputs}; "
            "check classes, or say by `outputs` which output is which class"
        )


def _overruled(member: Member, found: Imported) -> Iterator[str]:
    """What the manifest states otherwise than the file; the manifest wins, and the user should know."""
    if found.input is not None and member.input != found.input:
        yield f"its weights want {input_text(found.input)}; what is stated is used: {input_text(member.input)}"
    if found.outputs is not None and member.outputs != found.outputs:
        yield f"the outputs of its weights are {found.outputs}; what is stated is used: {member.outputs}"


def _copied(network: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(network).cpu().float().eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"member {name}: its network cannot be copied ({first_line(error)}); give `predict` and `fingerprint`"
        ) from error
