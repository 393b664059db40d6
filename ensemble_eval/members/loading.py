"""Loads the network of a member, from a weights file or from memory."""

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ensemble_eval.errors import InputError, first_names, located, refusing
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import Imported, input_text
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.importers.published import TIMM, TORCHVISION_MODELS, published_network
from ensemble_eval.models import registry

# A counter that only training reads; weights converted from other frameworks do not have it.
_TRAINING_COUNTER = "num_batches_tracked"


def load_member(
    member: Member,
    num_outputs: int,
    *,
    trust_python: bool = False,
    tell: Callable[[str], object] = lambda _sentence: None,
) -> nn.Module:
    """Return a member's network: normalised float32 [B, 3, H, W] -> logits, on the CPU, in eval mode.

    A network in memory is copied, so the caller may change the result. Auxiliary heads of the registry's
    architectures are left out, because only training uses them.

    Args:
        member: A member with weights or a network, not with a predict function.
        num_outputs: The number of outputs, for an architecture of the registry.
        trust_python: Whether a `python:` architecture may import and run installed code.
        tell: Called with sentences that the user should see, such as which of two sets of weights was read.

    Raises:
        InputError: The weights are missing or damaged, have another hash, or do not fit the network exactly; an
            architecture is `python:` without `trust_python`; or a network cannot be copied.
    """
    if member.network is not None:
        problem, remedy = f"member {member.name}: its network cannot be copied", "give `predict` and `fingerprint`"
        with refusing(problem, remedy, RuntimeError, TypeError, AttributeError):
            return copy.deepcopy(member.network).cpu().float().eval()
    network = _build(member, num_outputs, trust_python=trust_python)
    path = member.weights_file
    found = read_weights(path, sha256=member.sha256, averaged=member.averaged, names=network.state_dict().keys())
    with located(f"member {member.name}"):
        _refuse_contradictions(member, found, num_outputs)
    for note in (*found.notes, *_overruled(member, found)):
        tell(f"member {member.name}: {note}")
    load_tensors(network, found.tensors, weights=f"member {member.name}: {path}", arch=member.arch)
    return network.eval()


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], *, weights: str, arch: str) -> None:
    """Load tensors into a network, in place, in the network's own precision.

    Args:
        network: The network, which is changed.
        tensors: The tensors by their names in the network's state dict. BatchNorm's counters may be missing.
        weights: What messages call the tensors.
        arch: What messages call the network.

    Raises:
        InputError: A name is missing or unexpected, or a tensor has the wrong shape or kind of number, NaN or
            infinity.
    """
    expected = network.state_dict()
    needed = [name for name in expected if not name.endswith(_TRAINING_COUNTER)]
    if missing := [name for name in needed if name not in tensors]:
        raise InputError(
            f"{weights} lacks {len(missing)} of the keys of {arch}: {first_names(missing)}; check arch and options"
        )
    if unexpected := [name for name in tensors if name not in expected]:
        raise InputError(
            f"{weights} has {len(unexpected)} keys that {arch} does not have: {first_names(unexpected)}; "
            "check arch and options"
        )
    for name, tensor in tensors.items():
        _refuse_other_tensor(expected[name], tensor, f"{weights}: {name}", arch)
    network.load_state_dict(tensors, strict=False)  # the checks above have clearer messages


def _build(member: Member, num_classes: int, *, trust_python: bool) -> nn.Module:
    """Build the network that a member's weights belong to."""
    if member.arch.startswith((TIMM, TORCHVISION_MODELS)):
        return published_network(member.arch, num_classes, member.options)
    if not member.arch.startswith(registry.PYTHON_PREFIX):
        return registry.build(member.arch, num_classes, **member.options)
    if not trust_python:
        raise InputError(
            f"member {member.name} runs installed code ({member.arch}); add `trust_python=True` if you trust it"
        )
    return registry.build_python(member.arch, member.options)


def _refuse_contradictions(member: Member, found: Imported, num_outputs: int) -> None:
    """Refuse an architecture or a number of classes that contradicts the weights file."""
    path = member.weights_file
    if found.certain and member.arch != found.arch:
        raise InputError(
            f"the weights {path} are {found.format}, whose architecture is {found.arch}, "
            f"and `arch` says {member.arch}; leave `arch` out"
        )
    if member.arch in registry.ARCHITECTURES and found.num_outputs not in (None, num_outputs):
        raise InputError(
            f"the weights {path} have {found.num_outputs} outputs, and the ensemble's classes need {num_outputs}; "
            "check classes, or state in `outputs` which output is which class"
        )


def _overruled(member: Member, found: Imported) -> Iterator[str]:
    """Yield sentences on what the member declares differently from its weights file. The declaration is used."""
    if found.input is not None and member.input != found.input:
        yield f"its weights expect {input_text(found.input)}; declared and used: {input_text(member.input)}"
    if found.outputs is not None and member.outputs != found.outputs:
        yield f"the outputs of its weights are {found.outputs}; declared and used: {member.outputs}"


def _refuse_other_tensor(expected: Tensor, given: Tensor, place: str, arch: str) -> None:
    if given.shape != expected.shape:
        raise InputError(
            f"{place} has the shape {tuple(given.shape)}, and {arch} with these options "
            f"and classes needs {tuple(expected.shape)}; check options and classes"
        )
    if given.is_floating_point() != expected.is_floating_point():
        raise InputError(f"{place} holds {given.dtype}; convert it to {expected.dtype}")
    if not bool(torch.isfinite(given).all()):
        raise InputError(f"{place} holds NaN or infinity; the weights are damaged; use another file")
