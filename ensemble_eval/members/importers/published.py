"""Weights that are published under a name: `torchvision:`, `timm:` and `hf:`, through their libraries' caches."""

from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.members.ensemble import InputFormat
from ensemble_eval.members.importers import hub, timm_models, torchvision_weights


@dataclass(frozen=True)
class Published:
    """Published weights on this machine, and what the publisher says that their file does not.

    Attributes:
        path: of the file.
        arch: of the network; None where the file says it.
        input: how the network wants its pixels; None where the file says it.
    """

    path: Path
    arch: str | None = None
    input: InputFormat | None = None


def published(name: str) -> Published | None:
    """Published weights by name; None where the name is none of a publisher's.

    Args:
        name: such as `torchvision:GoogLeNet_Weights.IMAGENET1K_V1`.

    Raises:
        InputError: nobody publishes that, or it is neither in a cache nor to be had.
    """
    publisher, _, rest = name.partition(":")
    match publisher:
        case "torchvision":
            return Published(torchvision_weights.downloaded(rest))
        case "hf":
            return Published(hub.downloaded(rest))
        case "timm":
            repository, input_format = timm_models.published(rest)
            return Published(hub.downloaded(repository), name, input_format)
    return None


def file_of(name: str | Path) -> Path:
    """The file of published weights, or the path that is no such name.

    Raises:
        InputError: see `published`.
    """
    found = published(str(name))
    return Path(name) if found is None else found.path
