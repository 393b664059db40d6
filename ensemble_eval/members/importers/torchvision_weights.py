"""torchvision's published GoogLeNet: recognised by its file, and found by name."""

from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError, first_line
from ensemble_eval.files import sha256_of
from ensemble_eval.members.ensemble import InputFormat

PREFIX = "torchvision:"
# How the SHA-256 of each published file begins, as its name says, and what torchvision states about it.
PUBLISHED = {"1378be20": "69.778% top-1 and 89.53% top-5 (torchvision:GoogLeNet_Weights.IMAGENET1K_V1)"}


@dataclass(frozen=True)
class Published:
    """What torchvision says of a file.

    Attributes:
        input: `transform_input` is True with these weights and False otherwise, and is in no state dict
            (pytorch/vision#4136).
        accuracy: at one crop, as a phrase.
    """

    input: InputFormat
    accuracy: str


def recognised(path: Path) -> Published | None:
    """What torchvision says of this very file; None of any other, a copy that was saved anew too."""
    sha256 = sha256_of(path)
    for beginning, accuracy in PUBLISHED.items():
        if sha256.startswith(beginning):
            return Published(InputFormat(transform_input=True), accuracy)
    return None


def downloaded(name: str) -> Path:
    """The file of published weights by name, from the cache of torch's hub, which fetches what is not there.

    Args:
        name: as torchvision writes it, such as `GoogLeNet_Weights.IMAGENET1K_V1`.

    Raises:
        InputError: torchvision has no such GoogLeNet, or the file is neither in the cache nor to be had.
    """
    import torch
    from torchvision.models import GoogLeNet_Weights

    known = {str(weights): weights for weights in GoogLeNet_Weights}
    if name not in known:
        raise InputError(f"torchvision publishes no weights {name!r} of GoogLeNet; known are {', '.join(known)}")
    url = known[name].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_of(url), progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{PREFIX}{name} is not in torch's cache and cannot be fetched ({first_line(error)}); "
            f"put {path.name} into {path.parent}, or set TORCH_HOME to a cache that has it"
        ) from error
    return path


def _hash_of(url: str) -> str:
    return url.rpartition("-")[2].partition(".")[0]
