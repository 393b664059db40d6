"""Shipped protocols against the programs that they come from, or slow versions of these."""

from collections.abc import Iterator

import pytest
import torch
from builders import encoded, picture
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode, TenCrop
from torchvision.transforms.v2.functional import hflip
from torchvision.transforms.v2.functional import resize as torchvisions_resize

from ensemble_eval.crops.pixels import decode, prepare
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import PROTOCOLS, Protocol
from ensemble_eval.crops.views import View

SIDES = st.integers(min_value=1, max_value=3000)
ODD_SIZES = ((501, 333), (67, 101), (300, 300), (343, 256), (255, 300))


def _crops(image: Tensor, protocol: Protocol) -> Tensor:
    """All crops uint8 [crops, 3, size, size] in the crop order."""
    plan = CropRule((protocol,), len(protocol.crops)).plan(image.shape[2], image.shape[1])
    source = prepare(image, plan)
    return torch.stack([source.cut(plan.views[view]) for view in plan.groups[0].view_of_crop])


def _image(width: int, height: int) -> Tensor:
    return decode(encoded(picture(width, height)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("torchvision-ten-crop", InterpolationMode.BILINEAR), ("resnet-10", InterpolationMode.BICUBIC)],
)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_ten_crops_are_torchvisions(name: str, mode: InterpolationMode, size: tuple[int, int]) -> None:
    """torchvision has top left, top right, bottom left, bottom right and centre; here the centre comes first."""
    image = _image(*size)
    theirs = torch.stack(TenCrop(224)(torchvisions_resize(image, [256], mode, antialias=True)))
    permutation = [4, 0, 1, 2, 3, 9, 5, 6, 7, 8]
    assert torch.equal(_crops(image, PROTOCOLS[name]), theirs[permutation])


# soeaver/caffe-model, cls/evaluation_cls.py, in integers. Boxes are (left, top, side, mirrored), the mirrored ones
# in pixels of the image that is not mirrored. They differ from ours by design:
# - there the resized image is resized again for each further scale, here the original is;
# - there the last square ends a pixel before the edge if the slack is odd, here at the edge;
# - there halves are rounded down, here to even;
# - there the mirrored crops are cut from mirrored pixels, so that those of the centre begin a pixel further right
#   if the slack is odd, here a crop is mirrored.
Box = tuple[int, int, int, bool]
SIX = ("top-left", "bottom-right", "top-right", "bottom-left", "centre", "whole")
MIRROR_OF = {"top-left": "top-right", "top-right": "top-left", "bottom-left": "bottom-right"}
MIRROR_OF |= {"bottom-right": "bottom-left"}


def _six(side: int, crop: int) -> list[tuple[int, int, int]]:
    far, middle = side - crop, (side - crop) // 2
    return [(0, 0, crop), (far, far, crop), (far, 0, crop), (0, far, crop), (middle, middle, crop), (0, 0, side)]


def _twelve(left: int, top: int, side: int, crop: int) -> Iterator[tuple[str, Box]]:
    """The names are those of what is seen in the image, mirrored or not."""
    for name, (x, y, length) in zip(SIX, _six(side, crop), strict=True):
        yield name, (left + x, top + y, length, False)
    for name, (x, y, length) in zip(SIX, _six(side, crop), strict=True):
        yield MIRROR_OF.get(name, name), (left + side - x - length, top + y, length, True)


def _evaluators(resized: tuple[int, int], scale: int, crop: int) -> dict[tuple[str, str, bool], Box]:
    """The 36 boxes of one scale by square, position and whether they are mirrored."""
    step_x, step_y = (resized[0] - scale) // 2, (resized[1] - scale) // 2
    found = {}
    for number, square in enumerate(("first", "centre", "last")):
        for name, box in _twelve(step_x * number, step_y * number, scale, crop):
            found[square, name, box[3]] = box
    return found


def _evaluators_sizes(width: int, height: int, base: int, scale: int) -> tuple[int, int]:
    """Both resizes of the script, each rounded down."""
    shorter = min(width, height)
    first = width * base // shorter, height * base // shorter
    return first[0] * scale // base, first[1] * scale // base


def _box(view: View) -> Box:
    return view.left, view.top, view.side, view.mirrored


INCEPTION = ["googlenet", "inception-235", "inception-299", "inception-320"]


@pytest.mark.parametrize("name", INCEPTION)
@given(width=SIDES, height=SIDES)
def test_the_rule_of_144_is_the_evaluators_but_for_rounding(name: str, width: int, height: int) -> None:
    """Of an image of the same size, each box begins where theirs does, or at a literal distance from it."""
    protocol = PROTOCOLS[name]
    for scale in protocol.scales:
        resized = protocol.canvas(scale).resized(width, height)
        theirs = _evaluators(resized, scale, protocol.size)
        ours = [crop for crop in protocol.crops if crop.scale == scale]
        assert len(ours) == len(theirs) == 36
        slack = scale - protocol.size
        for crop in ours:
            view = protocol.view_of(crop, width, height)
            left, top, side, mirrored = theirs[crop.square, crop.position, crop.mirrored]
            assert (view.side, view.mirrored) == (side, mirrored)
            right, down = (_further(crop.square, length - scale) for length in resized)
            if crop.position == "centre":
                down += slack % 4 == 3
                right += (slack % 4 == 3) - (slack % 2 if crop.mirrored else 0)
            assert (view.left, view.top) == (left + right, top + down)


def _further(square: str, slack: int) -> int:
    """How many pixels our square begins after theirs."""
    return {"first": 0, "centre": int(slack % 4 == 3), "last": slack % 2}[square]


@pytest.mark.parametrize("name", INCEPTION)
@given(width=SIDES, height=SIDES)
def test_the_evaluators_second_resize_makes_an_image_of_at_most_two_pixels_less(
    name: str, width: int, height: int
) -> None:
    protocol = PROTOCOLS[name]
    base = protocol.scales[0]
    for scale in protocol.scales:
        ours = protocol.canvas(scale).resized(width, height)
        theirs = _evaluators_sizes(width, height, base, scale)
        assert min(ours) == min(theirs) == scale
        assert 0 <= max(ours) - max(theirs) <= (0 if scale == base else 2)


def test_the_evaluators_sizes_of_a_photograph() -> None:
    """As the script's own arithmetic has them: 383 and 468 in place of 384 and 469."""
    scales = PROTOCOLS["googlenet"].scales
    theirs = [_evaluators_sizes(500, 375, 256, scale) for scale in scales]
    assert theirs == [(341, 256), (383, 288), (426, 320), (468, 352)]
    ours = [PROTOCOLS["googlenet"].canvas(scale).resized(500, 375) for scale in scales]
    assert ours == [(341, 256), (384, 288), (426, 320), (469, 352)]


@given(width=SIDES, height=SIDES)
def test_the_twelve_boxes_are_the_evaluators(width: int, height: int) -> None:
    """Without a difference: 256 - 224 is even, and every image becomes the same square."""
    protocol = PROTOCOLS["googlenet-12"]
    boxes = [box for _, box in _twelve(0, 0, 256, 224)]
    found = [_box(view) for view in protocol.views_of(width, height)]
    # The script's order: six of the square, then six of its mirror image.
    positions = [protocol.all_positions.index(name) for name in SIX]
    assert [found[2 * each] for each in positions] == boxes[:6]
    assert [found[2 * each + 1] for each in positions] == boxes[6:]


@pytest.mark.parametrize("size", ODD_SIZES)
def test_the_twelve_are_cut_from_the_squeezed_image_and_from_its_mirror_image(size: tuple[int, int]) -> None:
    image = _image(*size)
    square = torchvisions_resize(image, [256, 256], antialias=True)
    crops = _crops(image, PROTOCOLS["googlenet-12"])
    for mirrored, pixels in enumerate((square, hflip(square))):
        for number, (x, y, side) in enumerate(_six(256, 224)[:5]):
            ours = crops[2 * PROTOCOLS["googlenet-12"].all_positions.index(SIX[number]) + mirrored]
            assert torch.equal(ours, pixels[:, y : y + side, x : x + side])
        whole = torchvisions_resize(pixels, [224, 224], antialias=True)
        # A resized mirror image and a mirrored resized image may be rounded differently.
        assert (crops[10 + mirrored].int() - whole.int()).abs().max() <= mirrored


def _dense_network() -> tuple[Tensor, Tensor, Tensor]:
    """Kernels of a network of stride 8 that sees 224 pixels: 28 × 28 features, and a classifier of all."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 8, 8), (4, 4, 1, 1), (5, 4, 28, 28))
    first, second, last = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return first / 14, second / 2, last / 56


def _logits(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float64 [B, 5, (H - 224) / 8 + 1, (W - 224) / 8 + 1]."""
    first, second, last = _dense_network()
    features = functional.conv2d(images.double() / 255 - 0.5, first, stride=8).relu()
    return functional.conv2d(functional.conv2d(features, second).relu(), last)


@pytest.mark.parametrize("size", [(300, 300), pytest.param((400, 200), marks=pytest.mark.slow)])
def test_vggs_150_crops_are_places_of_a_dense_evaluation(size: tuple[int, int]) -> None:
    """Where the steps of the grid are multiples of 8, each crop's scores are those of one place of the dense map.

    That holds for square images, and for those twice as wide: steps of 40, 8 and 72 pixels on the shorter side,
    and of 136, 72 and 200 on the longer one.
    """
    image = _image(*size)
    ours = _logits(_crops(image, PROTOCOLS["vgg-150"]))[:, :, 0, 0]
    expected = []
    for scale in (384, 256, 512):
        resized = torchvisions_resize(image, [scale], antialias=True)
        plain, mirrored = (_logits(each[None])[0] for each in (resized, hflip(resized)))
        rows, columns = ((places - 1) // 4 for places in plain.shape[1:])
        assert 4 * 8 * rows == resized.shape[1] - 224
        assert 4 * 8 * columns == resized.shape[2] - 224
        for row in range(5):
            for column in range(5):
                # In the mirror image the first column is the last one.
                expected += [plain[:, row * rows, column * columns]]
                expected += [mirrored[:, row * rows, (4 - column) * columns]]
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-9, atol=1e-9)
    assert len({tuple(each.tolist()) for each in ours}) == 150


@given(width=SIDES, height=SIDES)
def test_vggs_grid_is_chainers_on_the_shorter_side_and_reaches_the_edge_of_the_longer_one(
    width: int, height: int
) -> None:
    """`VGGTestDataset` takes equal whole steps, so that its last crop ends up to three pixels before the edge."""
    protocol = PROTOCOLS["vgg-150"]
    for crop, view in zip(protocol.crops, protocol.views_of(width, height), strict=True):
        lengths = protocol.canvas(crop.scale).resized(width, height)
        cell = [int(each) for each in crop.position.split(",")][::-1]
        for start, length, step in zip((view.left, view.top), lengths, cell, strict=True):
            theirs = (length - 224) // 4 * step
            assert 0 <= start - theirs <= (0 if length == crop.scale else 3)
            assert step < 4 or start == length - 224
