"""Classifiers that timm publishes, by name: their network is timm's, and their weights are the hub's."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ensemble_eval.errors import InputError, first_line, needing_extra
from ensemble_eval.members.ensemble import InputFormat

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"


def published(name: str) -> tuple[str, InputFormat]:
    """The hub's repository of a model's weights, and how the model wants its pixels.

    Args:
        name: as timm writes it, such as `resnet50.a1_in1k`.

    Raises:
        InputError: timm is not installed, has no such model, or publishes no weights of it on the hub.
    """
    with needing_extra("hub", "a model of timm"):
        import timm
    try:
        found: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{PREFIX}{name}: timm does not know it ({first_line(error)})") from error
    if found is None or not found.hf_hub_id:
        raise InputError(
            f"{PREFIX}{name}: timm publishes no weights of that name on the hub; see timm.list_pretrained()"
        )
    return found.hf_hub_id, InputFormat(mean=tuple(found.mean), std=tuple(found.std))


def build(arch: str, num_outputs: int, options: Mapping[str, Any]) -> "nn.Module":
    """A network of timm with fresh weights: normalised float [B, 3, 224, 224] -> logits [B, num_outputs].

    Args:
        arch: its name with the prefix `timm:`.
        num_outputs: of the classifier.
        options: of timm's `create_model`.

    Raises:
        InputError: timm is not installed, or cannot build that.
    """
    with needing_extra("hub", "a model of timm"):
        import timm
    try:
        network: nn.Module = timm.create_model(
            arch.removeprefix(PREFIX), pretrained=False, num_classes=num_outputs, **options
        )
    except Exception as error:
        # Each model's own code refuses options in its own way.
        raise InputError(f"{arch} cannot be built by timm ({first_line(error)})") from error
    return network
