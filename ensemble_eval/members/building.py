"""From a member's architecture to a network with fresh weights."""

from torch import nn

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.importers import timm_models
from ensemble_eval.models import registry


def build(member: Member, num_classes: int, *, trust_python: bool) -> nn.Module:
    """The network that a member's weights are for.

    Raises:
        InputError: an unknown architecture or option; a `python:` architecture without `trust_python`.
    """
    if member.arch.startswith(timm_models.PREFIX):
        return timm_models.build(member.arch, num_classes, member.options)
    if not member.arch.startswith(registry.PYTHON_PREFIX):
        return registry.build(member.arch, num_classes, **member.options)
    if not trust_python:
        raise InputError(
            f"member {member.name} runs installed code ({member.arch}); add `trust_python=True` if you trust it"
        )
    return registry.build_python(member.arch, member.options)
