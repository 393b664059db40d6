"""The one crop of a model's own protocol against timm's evaluation transform: the same pixels."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import encoded, picture
from numpy.typing import NDArray
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from ensemble_eval.crops.pixels import decode, prepare
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import Protocol, own_protocol

IMAGENET = (0.485, 0.456, 0.406)
INCEPTION = (0.5, 0.5, 0.5)
# Size, crop fraction, mode, interpolation and mean, each with a model that has them or nearly has them.
CONFIGURATIONS = [
    (224, 0.875, "center", "bilinear", IMAGENET),  # vgg16.tv_in1k
    (224, 0.95, "center", "bicubic", IMAGENET),  # resnet50.a1_in1k
    (224, 0.965, "center", "bilinear", IMAGENET),  # resnet50.tv2_in1k, whose slack of 8 is even
    (299, 0.875, "center", "bicubic", INCEPTION),  # inception_v3
    (299, 0.8975, "center", "bicubic", INCEPTION),  # inception_resnet_v2, whose slack of 34 is even
    (288, 1.0, "center", "bicubic", IMAGENET),
    (384, 1.0, "squash", "bicubic", INCEPTION),  # vit_base_patch16_clip_384
    (336, 0.9, "squash", "bilinear", IMAGENET),
    (448, 1.15, "center", "bicubic", IMAGENET),  # larger than the resized image: black above and below
    (448, 1.15, "squash", "bilinear", IMAGENET),
    (256, 1.0, "border", "bicubic", INCEPTION),
    (320, 0.9, "border", "bilinear", IMAGENET),
    (224, 1.1, "border", "bicubic", IMAGENET),
    (224, 0.9, "center", "nearest", IMAGENET),
    (224, 0.9, "center", "lanczos", IMAGENET),
    (224, 0.9, "border", "hamming", IMAGENET),
]
# Odd, smaller than every crop, panoramas, and almost square.
DRAWN = ((301, 233), (17, 11), (1, 1), (300, 21), (20, 207), (225, 224))
# Those of all photographs: 224 to 448 pixels, fractions from 0.875 to 1.15, all modes, both usual filters.
IN_USE = [CONFIGURATIONS[each] for each in (0, 1, 4, 5, 6, 7, 8, 11)]
Configuration = tuple[int, float, str, str, tuple[float, ...]]


def _ours(configuration: Configuration) -> Protocol:
    size, fraction, mode, interpolation, mean = configuration
    return own_protocol(size, math.floor(size / fraction), mode, interpolation, mean)  # type: ignore[arg-type]  # texts of a table


def _timms(configuration: Configuration, image: Image.Image) -> NDArray[np.uint8]:
    size, fraction, mode, interpolation, mean = configuration
    transform = transforms_imagenet_eval(size, fraction, mode, None, interpolation, mean, normalize=False)
    crop: Tensor = transform(image)
    assert crop.dtype == torch.uint8
    return crop.numpy()


def _crop(image: Tensor, protocol: Protocol) -> Tensor:
    source = prepare(image, CropRule((protocol,), 1).plan(image.shape[2], image.shape[1]))
    [view] = source.plan.views
    return source.cut(view)


def _differing(decoded: Tensor, image: Image.Image, configuration: Configuration) -> dict[int, int]:
    """How many values of the crop differ from timm's by how many grey levels; empty if it is the same."""
    theirs = _timms(configuration, image)
    ours = _crop(decoded, _ours(configuration)).numpy()
    assert ours.shape == theirs.shape == (3, configuration[0], configuration[0])
    levels, counts = np.unique(np.abs(ours.astype(int) - theirs), return_counts=True)
    return {int(level): int(count) for level, count in zip(levels, counts, strict=True) if level}


def _name(configuration: Configuration) -> str:
    return "-".join(map(str, configuration[:4]))


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=_name)
def test_drawn_pictures_have_timms_pixels(configuration: Configuration) -> None:
    for size in DRAWN:
        image = picture(*size)
        assert _differing(decode(encoded(image)), image, configuration) == {}, size


def test_six_photographs_have_timms_pixels(photographs: list[Path]) -> None:
    for path in photographs[::34]:
        _assert_timms_pixels(path, CONFIGURATIONS[::3])


@pytest.mark.slow
def test_all_photographs_have_timms_pixels(photographs: list[Path]) -> None:
    """Each of the 200 with two configurations, so that each has 50; with all eight it takes four times as long."""
    assert len(photographs) == 200
    for position, path in enumerate(photographs):
        _assert_timms_pixels(path, IN_USE[position % 4 :: 4])


def _assert_timms_pixels(path: Path, configurations: Sequence[Configuration]) -> None:
    image = decode(path.read_bytes())
    with Image.open(path) as opened:
        theirs = opened.convert("RGB")
    for each in configurations:
        assert _differing(image, theirs, each) == {}, (path.name, _name(each))


@pytest.mark.parametrize(
    ("crop", "scale", "interpolation"),
    [
        (224, 256, InterpolationMode.BILINEAR),
        (299, 342, InterpolationMode.BILINEAR),  # Inception_V3_Weights.IMAGENET1K_V1
        (384, 384, InterpolationMode.BICUBIC),
    ],
)
def test_drawn_pictures_have_the_pixels_of_torchvisions_transform(
    crop: int, scale: int, interpolation: InterpolationMode
) -> None:
    """torchvision has floats from 0 to 1, which are normalised; undone, they are the grey levels."""
    transform = ImageClassification(
        crop_size=crop, resize_size=scale, interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    protocol = own_protocol(crop, scale, "center", interpolation.value, IMAGENET)
    for size in DRAWN:
        image = picture(*size)
        theirs = transform(image).mul(255).round()
        assert torch.equal(_crop(decode(encoded(image)), protocol).float(), theirs), size


def test_the_comparison_can_fail() -> None:
    """Another scale, mode, filter, or torch's filter in place of Pillow's are seen."""
    image, right = decode(encoded(picture(501, 333))), CONFIGURATIONS[1]
    expected = torch.from_numpy(_timms(right, picture(501, 333)))
    others = [
        own_protocol(224, 236, "center", "bicubic", IMAGENET),
        own_protocol(224, 235, "squash", "bicubic", IMAGENET),
        own_protocol(224, 235, "center", "bilinear", IMAGENET),
        own_protocol(224, 235, "border", "bicubic", IMAGENET),
    ]
    for other in others:
        assert not torch.equal(_crop(image, other), expected)
