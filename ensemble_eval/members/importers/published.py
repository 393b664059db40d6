"""Weights that are published under a name, `torchvision:`, `timm:` and `hf:`, from their libraries' caches."""

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_eval.crops.protocols import Protocol, own_protocol
from ensemble_eval.crops.views import Resampling
from ensemble_eval.errors import InputError, located, needing_extra, refusing
from ensemble_eval.files import sha256_of
from ensemble_eval.locations import local_copy, location
from ensemble_eval.members.imported import InputFormat

if TYPE_CHECKING:
    from torch import nn

TIMM, TORCHVISION_MODELS = "timm:", "torchvision:"
# timm's default.
_CROP_FRACTION = 0.875
# The image processors of transformers with known rules, and whether a single number as `size` means a square.
_IS_SQUARE = {
    "Bit": False,
    "CLIP": False,
    "ConvNext": False,
    "DeiT": True,
    "Levit": False,
    "Siglip": True,
    "ViT": True,
}
_PROCESSOR = re.compile(rf"({'|'.join(_IS_SQUARE)})(ImageProcessor|FeatureExtractor)(Pil|Fast)?")
# Pillow's numbers of its filters, by which transformers names them.
_FILTERS: Sequence[Resampling] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# How the SHA-256 of each of torchvision's files begins, as its name says, and what torchvision states about it.
TORCHVISION = {"1378be20": "69.778% top-1 and 89.53% top-5 (torchvision:GoogLeNet_Weights.IMAGENET1K_V1)"}
# Safetensors first: they cannot hold code at all.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


@dataclass(frozen=True)
class Published:
    """A file of weights, and what its publisher says about it.

    Attributes:
        weights: The file on this machine.
        arch: The architecture; None where the file itself says it.
        input: How pixels become the network's input; None where the file itself says it.
        protocol: The single crop with which the publisher evaluates it, if it is known.
    """

    weights: Path
    arch: str | None = None
    input: InputFormat | None = None
    protocol: Protocol | None = None


def published(name: str, folder: Path = Path()) -> Published:
    """The file of weights of a published name, or of a path in `folder`, and what its publisher says about it.

    Args:
        name: such as `torchvision:GoogLeNet_Weights.IMAGENET1K_V1`; a path if it has no such prefix.
        folder: where a relative path starts.

    Raises:
        InputError: nobody publishes that, or it is neither in a cache nor can be fetched.
    """
    match name.partition(":"):
        case "torchvision", _, rest if rest:
            return _from_torchvision(rest)
        case "hf", _, rest if rest:
            return _from_hub(rest)
        case "timm", _, rest if rest:
            return _from_timm(rest)
    return Published(local_copy(folder / location(name)))


def torchvision_accuracy(path: Path) -> str | None:
    """The accuracy that torchvision states for exactly this file; None for others, such as a copy saved again."""
    sha256 = sha256_of(path)
    return next((accuracy for beginning, accuracy in TORCHVISION.items() if sha256.startswith(beginning)), None)


def published_network(arch: str, num_outputs: int, options: Mapping[str, Any]) -> "nn.Module":
    """A network of timm or torchvision with fresh weights: normalised float [B, 3, S, S] -> [B, num_outputs].

    Args:
        arch: its name with the prefix `timm:` or `torchvision:`.
        num_outputs: of the classifier.
        options: of timm's `create_model` or torchvision's `get_model`.

    Raises:
        InputError: timm is not installed, or the library cannot build that.
    """
    library, _, name = arch.partition(":")
    # Each model's own code refuses options in its own way.
    cannot_build = refusing(f"{arch} cannot be built by {library}")
    network: nn.Module
    if library == "torchvision":
        from torchvision.models import get_model

        # These two warn of their initial weights, which are replaced anyway.
        unset = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with cannot_build:
            network = get_model(name, weights=None, num_classes=num_outputs, **{**unset, **options})
        return network
    with needing_extra("hub", "a model of timm"):
        import timm
    with cannot_build:
        network = timm.create_model(name, pretrained=False, num_classes=num_outputs, **options)
    return network


def from_hub(name: str, files: Sequence[str] = _HUB_FILES) -> Path:
    """A file of a repository of the Hugging Face hub, from its cache, which fetches what is not there.

    Args:
        name: `OWNER/NAME`, or `OWNER/NAME@REVISION`.
        files: its names; the first that the repository has is taken.

    Raises:
        InputError: huggingface_hub is not installed, there is no such repository or file in it, or it is neither
            in the cache nor to be had.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise InputError(f"hf:{name} is not of the form hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    with needing_extra("hub", "a published network of the hub"):
        from huggingface_hub import errors, hf_hub_download
    problem = f"hf:{name} has none of {', '.join(files)} in the hub's cache, and they cannot be fetched"
    remedy = "fetch the repository where there is a network, or set HF_HOME to a cache that has it"
    absent = errors.EntryNotFoundError
    with refusing(problem, remedy, absent, OSError, ValueError, errors.HfHubHTTPError):
        # The cache alone cannot say whether the hub has an earlier file, and so it may be a later one.
        for file in files[:-1]:
            with contextlib.suppress(absent):
                return Path(hf_hub_download(match[1], file, revision=match[2]))
        return Path(hf_hub_download(match[1], files[-1], revision=match[2]))


def _from_hub(name: str) -> Published:
    """Weights of the hub, with what their repository says in the files of timm or of transformers."""
    weights = from_hub(name)
    path, config = _configuration(name, "config.json")
    stated = config.get("pretrained_cfg")
    if isinstance(stated, dict):
        with refusing(
            f"the configuration {path} is not timm's", "name the weights in a manifest with `arch` and `input`"
        ):
            return _as_timm_states(weights, f"{TIMM}{config['architecture']}", stated)
    path, config = _configuration(name, "preprocessor_config.json")
    with refusing(f"{path} contradicts itself", "state `input` and `protocol` in a manifest"):
        return _as_transformers_states(weights, config)


def _configuration(name: str, file: str) -> tuple[Path, dict[str, Any]]:
    """A JSON file of a repository; empty if there is none, or if it is no table."""
    try:
        path = from_hub(name, [file])
    except InputError:
        return Path(file), {}
    with refusing(f"{path} is no valid JSON", "fetch the repository again", ValueError):
        config = json.loads(path.read_text("utf-8"))
    return path, config if isinstance(config, dict) else {}


def _from_timm(name: str) -> Published:
    with needing_extra("hub", "a model of timm"):
        import timm
    with refusing(f"{TIMM}{name}: timm does not know it", "", RuntimeError, KeyError):
        found: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if found is None or not found.hf_hub_id:
        raise InputError(
            f"{TIMM}{name}: timm publishes no weights of that name on the hub; see timm.list_pretrained()"
        )
    return _as_timm_states(from_hub(found.hf_hub_id), f"{TIMM}{name}", vars(found))


def _as_timm_states(weights: Path, arch: str, stated: Mapping[str, Any]) -> Published:
    """Input and crop from timm's configuration of a model (`PretrainedCfg`), at its input size."""
    _, height, width = stated["input_size"]
    if height != width:
        raise InputError(f"{arch} takes {width}×{height} pixels, and crops are squares; use another model")
    mean = tuple(stated["mean"])
    scale = math.floor(width / (stated.get("crop_pct") or _CROP_FRACTION))
    with located(f"the configuration of {arch}"):
        protocol = own_protocol(width, scale, stated.get("crop_mode") or "center", stated["interpolation"], mean)
    return Published(weights, arch, InputFormat(mean=mean, std=tuple(stated["std"]), size=width), protocol)


def _as_transformers_states(weights: Path, stated: Mapping[str, Any]) -> Published:
    """Input and crop from the configuration of an image processor of transformers.

    Nothing is taken from processors with rules of their own, or from a configuration that leaves something open.
    """
    processor = stated.get("image_processor_type") or stated.get("feature_extractor_type")
    known = _PROCESSOR.fullmatch(processor) if isinstance(processor, str) else None
    rescaled = stated.get("do_rescale", True) and math.isclose(stated.get("rescale_factor", 1 / 255), 1 / 255)
    needed = {"size", "resample", *(("image_mean", "image_std") if stated.get("do_normalize", True) else ())}
    if known is None or not rescaled or not stated.get("do_resize", True) or not needed <= stated.keys():
        return Published(weights)
    size, scale, is_squeezed = _transformers_sizes(known[1], stated)
    if stated.get("do_normalize", True):
        mean, std = tuple(stated["image_mean"]), tuple(stated["image_std"])
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # Unlike timm and torchvision, transformers rounds the offset of a centre crop down.
    protocol = own_protocol(
        size, scale, "squash" if is_squeezed else "center", _FILTERS[stated["resample"]], mean, "centre-floor"
    )
    return Published(weights, None, InputFormat(mean=mean, std=std, size=size), protocol)


def _transformers_sizes(family: str, stated: Mapping[str, Any]) -> tuple[int, int, bool]:
    """The side of the crop, the length to which the image is resized, and whether it is squeezed to a square."""
    resized = stated["size"]
    if isinstance(resized, int):
        resized = {"height": resized, "width": resized} if _IS_SQUARE[family] else {"shortest_edge": resized}
    is_squeezed = resized.keys() == {"height", "width"}
    if not is_squeezed and resized.keys() != {"shortest_edge"}:
        raise InputError(f"`size` has {', '.join(sorted(resized))}, and crops need one length")
    scale = _square_side(resized) if is_squeezed else resized["shortest_edge"]
    size = _square_side(stated["crop_size"]) if stated.get("do_center_crop") else scale
    if family == "ConvNext":
        fraction = stated.get("crop_pct") or 224 / 256
        # From 384 pixels on, it squeezes the whole image.
        size, is_squeezed = scale, scale >= 384
        scale = scale if is_squeezed else int(scale / fraction)
    elif family == "Levit" and not is_squeezed:
        scale = int(256 / 224 * scale)
    elif not is_squeezed and not stated.get("do_center_crop"):
        raise InputError(
            "`size` keeps the aspect ratio, and `do_center_crop` is false, so its crops are no squares"
        )
    if scale < size:
        raise InputError(f"`crop_size` is {size} pixels, and images are resized to {scale}")
    return size, scale, is_squeezed


def _square_side(size: int | Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    if size["height"] != size["width"]:
        raise InputError(f"{size['width']}×{size['height']} pixels are no square, and crops are squares")
    return size["height"]


def _from_torchvision(name: str) -> Published:
    """Published weights from the cache of torch's hub, which fetches what is not there."""
    import torch
    from torchvision import models

    remedy = "give a name such as GoogLeNet_Weights.IMAGENET1K_V1"
    # Weights of detectors and of video networks have no crop, or one that is no square.
    with refusing(
        f"torchvision publishes no weights of a classifier {name!r}", remedy, ValueError, KeyError, AttributeError
    ):
        found: Any = models.get_weight(name)
        transform = found.transforms()
        [size], [scale] = transform.crop_size, transform.resize_size
        # Quantised networks are built by functions of their own.
        arch, _ = name.lower().split("_weights.")
    protocol = own_protocol(size, scale, "center", transform.interpolation.value, transform.mean)
    path = Path(torch.hub.get_dir(), "checkpoints", found.url.rpartition("/")[2])
    if not path.is_file():
        problem = f"torchvision:{name} is not in torch's cache and cannot be fetched"
        remedy = f"put {path.name} into {path.parent}, or set TORCH_HOME to a cache that has it"
        with refusing(problem, remedy, OSError, RuntimeError):
            path.parent.mkdir(parents=True, exist_ok=True)
            beginning = found.url.rpartition("-")[2].partition(".")[0]
            torch.hub.download_url_to_file(found.url, str(path), hash_prefix=beginning, progress=False)
    if isinstance(found, models.GoogLeNet_Weights):
        # Our own architecture, whose file says the rest.
        return Published(path, protocol=protocol)
    remapped = isinstance(found, models.Inception_V3_Weights)
    stated = InputFormat(mean=tuple(transform.mean), std=tuple(transform.std), transform_input=remapped, size=size)
    return Published(path, f"torchvision:{arch}", stated, protocol)
