"""Weights that are published under a name: `torchvision:`, `timm:` and `hf:`, through their libraries' caches."""

from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.members.importers import hub, torchvision_weights


def published_file(name: str) -> Path | None:
    """The local file of published weights; None where the name is none of a publisher's.

    Args:
        name: such as `torchvision:GoogLeNet_Weights.IMAGENET1K_V1`.

    Raises:
        InputError: nobody publishes that, or it is neither in a cache nor to be had.
    """
    publisher, _, rest = name.partition(":")
    match publisher:
        case "torchvision":
            return torchvision_weights.downloaded(rest)
        case "hf":
            return hub.downloaded(rest)
        case "timm":
            raise InputError(
                f"{name}: timm has no GoogLeNet; build its network in Python as python:timm:create_model, "
                f"and name its weights as hf:timm/{rest}"
            )
    return None
