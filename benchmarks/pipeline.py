"""A competent script's way from files to scores, with torchvision's public functions alone.

Shared by the contenders that use one, so that they differ in what runs the networks and in nothing else.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from benchmarks.work import CROPS, Work
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble

CROP_SIZE = 224
SCALES = (256, 288, 320, 352)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

Forward = Callable[[Tensor], Tensor]
# A picture of Pillow's or a tensor [3, H, W]: torchvision's functions take both and give back the same.
Picture = Any


def load_networks(manifest: Path) -> list[nn.Module]:
    """The members' networks in eval mode: normalised float32 [B, 3, 224, 224] -> logits [B, classes]."""
    ensemble = open_ensemble(manifest)
    networks = [load_member(member, ensemble.classes.count, trust_python=True) for member in ensemble.members]
    return [network.eval().requires_grad_(False) for network in networks]


def dtype_of(work: Work) -> torch.dtype:
    """What the networks and their input are converted to."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[work.precision]


def open_picture(path: Path) -> Image.Image:
    """Decode with Pillow. torchvision's own decoders are deprecated, and no faster: both are libjpeg-turbo."""
    return Image.open(path).convert("RGB")


def crops_of(picture: Picture) -> Iterator[Picture]:
    """The 144 crops 224×224, one at a time, so that whoever wants the first ten pays for ten."""
    for scale in SCALES:
        resized = transforms.resize(picture, [scale], antialias=True)
        for square in squares_of(resized, scale):
            for view in _views(square, scale):
                yield view
                yield transforms.hflip(view)


def squares_of(picture: Picture, side: int) -> Iterator[Picture]:
    """The centre square and those at both ends of the longer side."""
    height, width = transforms.get_size(picture)
    yield transforms.center_crop(picture, [side, side])
    yield transforms.crop(picture, 0, 0, side, side)
    yield transforms.crop(picture, height - side, width - side, side, side)


def _views(square: Picture, side: int) -> Iterator[Picture]:
    far = side - CROP_SIZE
    yield transforms.center_crop(square, [CROP_SIZE, CROP_SIZE])
    for top, left in itertools.product((0, far), repeat=2):
        yield transforms.crop(square, top, left, CROP_SIZE, CROP_SIZE)
    yield transforms.resize(square, [CROP_SIZE, CROP_SIZE], antialias=True)


def normalised(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [..., 3, H, W] -> `dtype` of the same shape, as torchvision's ImageNet weights want it."""
    scaled: Tensor = transforms.to_dtype(pixels, dtype, scale=True)
    transforms.normalize(scaled, MEAN, STD, inplace=True)
    return scaled


def crops_tensor(path: Path) -> Tensor:
    """Decode one image once; its crops uint8 [144, 3, 224, 224], channels last."""
    picture = transforms.pil_to_tensor(open_picture(path))
    return torch.stack(list(crops_of(picture))).contiguous(memory_format=torch.channels_last)


def mean_scores(
    path: Path,
    networks: Sequence[Forward],
    batch: int,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.channels_last,
) -> Tensor:
    """Softmax averaged over the crops and the members, float32 [classes]; the networks get `memory_format`.

    Cutting is done between the forward passes and not beside them: it is a few hundredths of the work, and
    a loader process would take its time from the same processors.
    """
    crop_batch = normalised(crops_tensor(path), dtype).contiguous(memory_format=memory_format)
    total = torch.zeros(())
    # Members outside: a network's weights stay in the cache for all batches of an image.
    for network in networks:
        for chunk in torch.split(crop_batch, batch):
            total = total + torch.softmax(network(chunk).float(), dim=1).sum(dim=0)
    return total / (CROPS * len(networks))


def require_scores(scores: Tensor) -> None:
    """Refuse to time what is not a probability vector."""
    if abs(float(scores.sum()) - 1) > 0.01:
        raise ValueError(f"these scores add up to {float(scores.sum())}, not to 1")
