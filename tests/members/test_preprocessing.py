"""A member's input from the pixels of crops, by hand."""

import gc
from typing import Any

import pytest
import torch

from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing, SharedPreprocessing

CPU = torch.device("cpu")
# Two crops of 2 × 2 pixels, the first red 10, green 20 and blue 30, the second red 255, green 51 and blue 0.
CROPS = torch.tensor([[10, 20, 30], [255, 51, 0]], dtype=torch.uint8)[:, :, None, None].repeat(1, 1, 2, 2)


def _pixel(input_format: InputFormat, crop: int) -> list[float]:
    """The three channels of a pixel of one crop, of which all pixels are equal."""
    found = Preprocessing(input_format)(CROPS)
    assert found.shape == CROPS.shape
    assert found.dtype == torch.float32
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))
    values: list[float] = found[crop, :, 0, 0].tolist()
    return values


def test_by_default_channels_are_normalised_as_for_imagenet() -> None:
    expected = [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert _pixel(InputFormat(), 1) == pytest.approx(expected)
    assert InputFormat.imagenet() == InputFormat()


def test_scale_mean_and_deviation_are_the_members_own() -> None:
    input_format = InputFormat(scale=1.0, mean=(5.0, 6.0, 7.0), std=(1.0, 2.0, 4.0))
    assert _pixel(input_format, 0) == pytest.approx([5, 7, 5.75])


def test_blue_may_come_first() -> None:
    caffes = InputFormat(channels="bgr", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
    assert _pixel(caffes, 0) == pytest.approx([30 - 104, 20 - 117, 10 - 123])


def test_torchvisions_second_normalisation_is_to_plus_and_minus_one() -> None:
    assert _pixel(InputFormat(transform_input=True), 1) == pytest.approx([1, -0.6, -1], abs=1e-6)
    blue_first = InputFormat(
        channels="bgr", mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229), transform_input=True
    )
    assert _pixel(blue_first, 1) == pytest.approx([-1, -0.6, 1], abs=1e-6)


def test_a_batch_is_normalised_once_and_forgotten_with_its_pixels() -> None:
    shared = SharedPreprocessing(InputFormat(), CPU, torch.float16)
    crops = CROPS.clone()
    found = shared(crops)
    assert found.dtype == torch.float16
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, Preprocessing(InputFormat())(CROPS).half())
    assert shared(crops) is found
    other = 255 - CROPS
    assert torch.equal(shared(other), Preprocessing(InputFormat())(other).half())
    # Pixels at the same place in memory are another batch, if their tensor is another.
    assert shared(other.view_as(other)) is not shared(other)
    del other
    gc.collect()
    assert shared._normalised is None


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.0}, {"scale": -1.0}, {"std": (0.2, 0.0, 0.2)}, {"std": (0.2, 0.2, -0.1)}], ids=str
)
def test_nothing_is_divided_by_nought(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is a number above 0"):
        InputFormat(**wrong)
    small = InputFormat(scale=0.5, std=(0.5, 0.25, 0.125))
    assert (small.scale, small.std) == (0.5, (0.5, 0.25, 0.125))
