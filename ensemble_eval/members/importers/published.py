"""Weights that are published under a name, `torchvision:`, `timm:` and `hf:`, from their libraries' caches."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_eval.errors import InputError, needing_extra, refusing
from ensemble_eval.files import sha256_of
from ensemble_eval.members.imported import InputFormat

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm:"
# How the SHA-256 of each of torchvision's files begins, as its name says, and what torchvision states about it.
TORCHVISION = {"1378be20": "69.778% top-1 and 89.53% top-5 (torchvision:GoogLeNet_Weights.IMAGENET1K_V1)"}
# Safetensors first: they cannot hold code at all.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def published(name: str, folder: Path = Path()) -> tuple[Path, str | None, InputFormat | None]:
    """The file of weights of a published name, or of a path in `folder`, and what its publisher says about it.

    Args:
        name: such as `torchvision:GoogLeNet_Weights.IMAGENET1K_V1`; a path if it has no such prefix.
        folder: where a relative path starts.

    Returns:
        The file on this machine; the network's architecture and input, each None where the file itself says it.

    Raises:
        InputError: nobody publishes that, or it is neither in a cache nor can be fetched.
    """
    match name.partition(":"):
        case "torchvision", _, rest if rest:
            return _from_torchvision(rest), None, None
        case "hf", _, rest if rest:
            return from_hub(rest), None, None
        case "timm", _, rest if rest:
            repository, input_format = _timm_weights(rest)
            return from_hub(repository), name, input_format
    return folder / name, None, None


def torchvision_accuracy(path: Path) -> str | None:
    """The accuracy that torchvision states for exactly this file; None for others, such as a copy saved again."""
    sha256 = sha256_of(path)
    return next((accuracy for beginning, accuracy in TORCHVISION.items() if sha256.startswith(beginning)), None)


def timm_network(arch: str, num_outputs: int, options: Mapping[str, Any]) -> "nn.Module":
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
    name = arch.removeprefix(TIMM)
    # Each model's own code refuses options in its own way.
    with refusing(f"{arch} cannot be built by timm"):
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_outputs, **options)
    return network


def from_hub(name: str) -> Path:
    """The weights of a repository of the Hugging Face hub, from its cache, which fetches what is not there.

    Args:
        name: `OWNER/NAME`, or `OWNER/NAME@REVISION`.

    Raises:
        InputError: huggingface_hub is not installed, there is no such repository or weights in it, or they are
            neither in the cache nor to be had.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise InputError(f"hf:{name} is not of the form hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    with needing_extra("hub", "a published network of the hub"):
        from huggingface_hub import errors, hf_hub_download
    problem = f"hf:{name} has none of {', '.join(_HUB_FILES)} in the hub's cache, and they cannot be fetched"
    remedy = "fetch the repository where there is a network, or set HF_HOME to a cache that has it"
    absent = errors.EntryNotFoundError
    with refusing(problem, remedy, absent, OSError, ValueError, errors.HfHubHTTPError):
        # The cache alone cannot say whether the hub has the first file, and so it may be the second one.
        with contextlib.suppress(absent):
            return Path(hf_hub_download(match[1], _HUB_FILES[0], revision=match[2]))
        return Path(hf_hub_download(match[1], _HUB_FILES[1], revision=match[2]))


def _timm_weights(name: str) -> tuple[str, InputFormat]:
    """The hub's repository of a model's weights, and how the model wants its pixels."""
    with needing_extra("hub", "a model of timm"):
        import timm
    with refusing(f"{TIMM}{name}: timm does not know it", "", RuntimeError, KeyError):
        found: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if found is None or not found.hf_hub_id:
        raise InputError(
            f"{TIMM}{name}: timm publishes no weights of that name on the hub; see timm.list_pretrained()"
        )
    return found.hf_hub_id, InputFormat(mean=tuple(found.mean), std=tuple(found.std))


def _from_torchvision(name: str) -> Path:
    """The file of published weights, from the cache of torch's hub, which fetches what is not there."""
    import torch
    from torchvision.models import GoogLeNet_Weights

    known = {str(weights): weights for weights in GoogLeNet_Weights}
    if name not in known:
        raise InputError(f"torchvision publishes no weights {name!r} of GoogLeNet; known are {', '.join(known)}")
    url = known[name].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    problem = f"torchvision:{name} is not in torch's cache and cannot be fetched"
    remedy = f"put {path.name} into {path.parent}, or set TORCH_HOME to a cache that has it"
    with refusing(problem, remedy, OSError, RuntimeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beginning = url.rpartition("-")[2].partition(".")[0]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=beginning, progress=False)
    return path
