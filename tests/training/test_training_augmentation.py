from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import picture
from PIL import Image
from scipy import stats
from torch import Tensor

from ensemble_eval.training.augmentation import INTERPOLATIONS, Augmentation, Interpolation, resize
from ensemble_eval.training.config import Sampling
from ensemble_eval.training.seeds import seeded

PLAIN = Sampling(brightness=0, contrast=0, saturation=0, lighting=0, random_interpolation_from_epoch=99)
WHOLE = replace(PLAIN, patch_area=(1.0, 1.0), patch_aspect=(1.0, 1.0))
# Only its size matters; large, so that rounding to pixels does not.
LARGE = torch.empty(1).expand(3, 4000, 4000)
DRAWS = 3000


def boxes(sampling: Sampling, image: Tensor = LARGE) -> dict[str, np.ndarray]:
    augmentation = Augmentation(sampling, 224)
    with seeded(0):
        drawn = [augmentation.draw_box(image) for _ in range(DRAWS)]
    return {name: np.array([box[name] for box in drawn]) for name in drawn[0]}


def test_areas_are_uniform_and_aspects_log_uniform_within_the_papers_limits() -> None:
    box = boxes(Sampling())
    area = box["height"] * box["width"] / 4000**2
    aspect = box["width"] / box["height"]
    assert area.min() > 0.0795
    assert area.min() < 0.09
    assert area.max() > 0.95
    assert aspect.min() == pytest.approx(3 / 4, abs=0.005)
    assert aspect.max() == pytest.approx(4 / 3, abs=0.005)
    # Up to 3/4 of the area every aspect fits into a square; above, draws that do not fit are drawn again.
    fitting = area < 0.75
    assert stats.kstest(area[fitting], stats.uniform(0.08, 0.75 - 0.08).cdf).pvalue > 0.01
    log_aspect = stats.uniform(np.log(3 / 4), 2 * np.log(4 / 3))
    assert stats.kstest(np.log(aspect[fitting]), log_aspect.cdf).pvalue > 0.01


def test_positions_are_uniform_and_stay_inside() -> None:
    box = boxes(Sampling())
    for start, length in (("top", "height"), ("left", "width")):
        room = 4000 - box[length]
        assert (box[start] >= 0).all()
        assert (box[start] <= room).all()
        assert stats.kstest(box[start][room > 400] / room[room > 400], "uniform").pvalue > 0.01


def test_a_members_own_area_is_obeyed() -> None:
    box = boxes(Sampling(patch_area=(0.5, 0.6)))
    area = box["height"] * box["width"] / 4000**2
    assert stats.kstest(area, stats.uniform(0.5, 0.1).cdf).pvalue > 0.01


def test_a_sliver_gives_its_centre_with_the_nearest_allowed_aspect() -> None:
    box = boxes(Sampling(patch_area=(1.0, 1.0)), torch.empty(1).expand(3, 30, 400))
    assert {name: set(values) for name, values in box.items()} == {
        "top": {0},
        "left": {180},
        "height": {30},
        "width": {40},
    }


def test_half_of_the_patches_are_mirrored() -> None:
    rising = torch.arange(64, dtype=torch.uint8).expand(3, 64, 64)
    augmentation = Augmentation(PLAIN, 32)
    mirrored = [
        bool(patch[0, 0, 0] > patch[0, 0, -1]) for patch in (augmentation(rising, 0, s) for s in range(400))
    ]
    assert stats.binomtest(sum(mirrored), 400).pvalue > 0.01


def test_the_four_interpolations_are_equally_likely_from_their_epoch_on() -> None:
    augmentation = Augmentation(Sampling(random_interpolation_from_epoch=5), 224)
    with seeded(0):
        before = {augmentation.draw_interpolation(4) for _ in range(100)}
        after = [augmentation.draw_interpolation(5) for _ in range(2000)]
    assert before == {"bilinear"}
    assert set(INTERPOLATIONS) == {"bilinear", "area", "nearest", "bicubic"}
    assert stats.chisquare([after.count(name) for name in INTERPOLATIONS]).pvalue > 0.01


@pytest.mark.parametrize(
    ("interpolation", "pillow"),
    [
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("nearest", Image.Resampling.NEAREST),
        ("area", Image.Resampling.BOX),
    ],
)
def test_each_interpolation_is_pillows(interpolation: Interpolation, pillow: Image.Resampling) -> None:
    image = picture(96, 160)
    ours = resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), 32, interpolation)
    theirs = np.asarray(image.resize((32, 32), pillow)).astype(int)
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


def test_without_distortions_a_patch_of_everything_is_the_image() -> None:
    image = torch.from_numpy(np.array(picture(32, 32))).permute(2, 0, 1)
    augmentation = Augmentation(WHOLE, 32)
    patches = [augmentation(image, 0, seed) for seed in range(8)]
    assert all(torch.equal(patch, image) or torch.equal(patch, image.flip(-1)) for patch in patches)
    assert any(torch.equal(patch, image) for patch in patches)


@pytest.mark.parametrize("strength", ["brightness", "contrast", "saturation"])
def test_each_distortion_has_its_strength(strength: str) -> None:
    image = torch.tensor([60.0, 100.0]).repeat(32, 16).expand(3, 32, 32).clone()
    image[0] += 40
    changed: dict[str, Any] = {strength: 0.4}
    sampling = replace(WHOLE, **changed)
    augmentation = Augmentation(sampling, 32)
    measured = [_measure(augmentation(image.byte(), 0, seed), strength) for seed in range(500)]
    factors = np.array(measured) / _measure(image, strength)
    assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).pvalue > 0.01


def _measure(pixels: Tensor, strength: str) -> float:
    """A quantity that the distortion multiplies by its factor."""
    values = pixels.float()
    if strength == "brightness":
        return float(values.mean())
    if strength == "contrast":
        return float(values.amax() - values.amin())
    return float(values[0].mean() - values[1].mean())


def test_lighting_noise_has_the_covariance_of_imagenets_colours() -> None:
    grey = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    augmentation = Augmentation(replace(WHOLE, lighting=0.3), 32)
    offsets = torch.stack([augmentation(grey, 0, seed)[:, 0, 0].double() - 128 for seed in range(1200)]) / 255
    axes = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = 0.3**2 * axes @ np.diag(np.array([0.2175, 0.0188, 0.0045]) ** 2) @ axes.T
    assert np.cov(offsets.numpy().T) == pytest.approx(expected, rel=0.15)


# `pca` in datasets/imagenet.lua of facebookarchive/fb.resnet.torch: each eigenvalue with its eigenvector.
COLOUR_AXES = (
    (0.2175, (-0.5675, -0.5808, -0.5836)),
    (0.0188, (0.7192, -0.0045, -0.6948)),
    (0.0045, (0.4009, -0.8140, 0.4203)),
)


@pytest.mark.parametrize("axis", range(3))
def test_lighting_noise_lies_along_each_of_the_published_axes(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    value, vector = COLOUR_AXES[axis]
    # So far along the axis that one channel goes from the middle almost to its end: levels then tell the digits.
    drawn = torch.zeros(3)
    drawn[axis] = 120 / 255 / (value * np.abs(vector).max())
    monkeypatch.setattr(torch, "randn", lambda *_: drawn)
    grey = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    patch = Augmentation(replace(WHOLE, lighting=1.0), 32)(grey, 0, 0)
    expected = 128 + 255 * float(drawn[axis]) * value * np.array(vector)
    assert patch[:, 0, 0].tolist() == [int(level) for level in expected.round()]


def test_distortions_beyond_black_and_white_stay_there() -> None:
    """A seed's noise is the same for every image, so grey shows what is added to black and to white."""
    augmentation = Augmentation(replace(WHOLE, lighting=0.5), 32)
    levels = (0, 128, 255)
    patches = [
        [augmentation(torch.full((3, 32, 32), level, dtype=torch.uint8), 0, seed).int() for level in levels]
        for seed in range(50)
    ]
    for black, grey, white in patches:
        assert (black - (grey - 128).clamp(0, 255)).abs().max() <= 1
        assert (white - (255 + grey - 128).clamp(0, 255)).abs().max() <= 1
    for darkened in (True, False):
        assert sum(bool((grey < 120).all() if darkened else (grey > 136).all()) for _, grey, _ in patches) > 5


def test_a_seed_gives_the_same_patch_and_leaves_the_global_generator_alone() -> None:
    image = torch.from_numpy(np.array(picture(80, 60))).permute(2, 0, 1)
    augmentation = Augmentation(Sampling(), 32)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, other = augmentation(image, 0, 7), augmentation(image, 0, 8)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(augmentation(image, 0, 7), first)
    assert not torch.equal(other, first)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
