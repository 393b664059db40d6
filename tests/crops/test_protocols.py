from dataclasses import replace
from pathlib import Path

import pytest
from builders import googlenet_plan
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import _compute_resized_output_size

from ensemble_eval.crops.protocols import GOOGLENET, read_protocol
from ensemble_eval.crops.views import Canvas, View, resized_size
from ensemble_eval.errors import InputError

Corner = tuple[int, int]

# All numbers here were worked out by hand. Columns: centre, TL, TR, BL, BR, whole, as (left, top).
LANDSCAPE_500_375: dict[tuple[int, str], list[Corner]] = {
    (256, "centre"): [(58, 16), (42, 0), (74, 0), (42, 32), (74, 32), (42, 0)],
    (256, "first"): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32), (0, 0)],
    (256, "last"): [(101, 16), (85, 0), (117, 0), (85, 32), (117, 32), (85, 0)],
    (288, "centre"): [(80, 32), (48, 0), (112, 0), (48, 64), (112, 64), (48, 0)],
    (288, "first"): [(32, 32), (0, 0), (64, 0), (0, 64), (64, 64), (0, 0)],
    (288, "last"): [(128, 32), (96, 0), (160, 0), (96, 64), (160, 64), (96, 0)],
    (320, "centre"): [(101, 48), (53, 0), (149, 0), (53, 96), (149, 96), (53, 0)],
    (320, "first"): [(48, 48), (0, 0), (96, 0), (0, 96), (96, 96), (0, 0)],
    (320, "last"): [(154, 48), (106, 0), (202, 0), (106, 96), (202, 96), (106, 0)],
    (352, "centre"): [(122, 64), (58, 0), (186, 0), (58, 128), (186, 128), (58, 0)],
    (352, "first"): [(64, 64), (0, 0), (128, 0), (0, 128), (128, 128), (0, 0)],
    (352, "last"): [(181, 64), (117, 0), (245, 0), (117, 128), (245, 128), (117, 0)],
}
PORTRAIT_375_500: dict[tuple[int, str], list[Corner]] = {
    (256, "centre"): [(16, 58), (0, 42), (32, 42), (0, 74), (32, 74), (0, 42)],
    (256, "first"): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32), (0, 0)],
    (256, "last"): [(16, 101), (0, 85), (32, 85), (0, 117), (32, 117), (0, 85)],
    (352, "centre"): [(64, 122), (0, 58), (128, 58), (0, 186), (128, 186), (0, 58)],
    (352, "last"): [(64, 181), (0, 117), (128, 117), (0, 245), (128, 245), (0, 117)],
}
SQUARE_300: dict[tuple[int, str], list[Corner]] = {
    (256, "centre"): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32), (0, 0)],
    (256, "first"): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32), (0, 0)],
    (256, "last"): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32), (0, 0)],
    (288, "last"): [(32, 32), (0, 0), (64, 0), (0, 64), (64, 64), (0, 0)],
    (320, "first"): [(48, 48), (0, 0), (96, 0), (0, 96), (96, 96), (0, 0)],
    (352, "centre"): [(64, 64), (0, 0), (128, 0), (0, 128), (128, 128), (0, 0)],
}
POSITIONS = ("centre", "top-left", "top-right", "bottom-left", "bottom-right", "whole")


def _view(scale: int, left: int, top: int, side: int, *, mirrored: bool) -> View:
    """A view of `googlenet`: the shorter side is resized, bilinearly, and nothing is padded."""
    return View(Canvas(scale, "shorter", "bilinear", "torch", 0, (0, 0, 0)), left, top, side, 224, mirrored)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(500, 375, LANDSCAPE_500_375), (375, 500, PORTRAIT_375_500), (300, 300, SQUARE_300)],
)
def test_boxes_of_a_photograph(width: int, height: int, expected: dict[tuple[int, str], list[Corner]]) -> None:
    checked = 0
    for crop in GOOGLENET.crops:
        if (crop.scale, crop.square) in expected:
            left, top = expected[crop.scale, crop.square][POSITIONS.index(crop.position)]
            side = crop.scale if crop.position == "whole" else 224
            expected_view = _view(crop.scale, left, top, side, mirrored=crop.mirrored)
            assert GOOGLENET.view_of(crop, width, height) == expected_view
            checked += 1
    assert checked == 12 * len(expected)


# Per scale: the resized longer side, and where the centre and the last square start along it. Halves such as
# 64.5 and 43.5 are rounded to even.
LONGER_SIDES = {
    (501, 333): [(385, 64, 129), (433, 72, 145), (481, 80, 161), (529, 88, 177)],
    (343, 256): [(343, 44, 87), (385, 48, 97), (428, 54, 108), (471, 60, 119)],
    (101, 67): [(385, 64, 129), (434, 73, 146), (482, 81, 162), (530, 89, 178)],
    (257, 256): [(257, 0, 1), (289, 0, 1), (321, 0, 1), (353, 0, 1)],
    (259, 256): [(259, 2, 3), (291, 2, 3), (323, 2, 3), (356, 2, 4)],
    (3, 2): [(384, 64, 128), (432, 72, 144), (480, 80, 160), (528, 88, 176)],
}


@pytest.mark.parametrize(("size", "expected"), LONGER_SIDES.items())
@pytest.mark.parametrize("is_portrait", [False, True])
def test_squares_of_odd_and_tiny_images(
    size: tuple[int, int], expected: list[tuple[int, int, int]], is_portrait: bool
) -> None:
    width, height = reversed(size) if is_portrait else size
    for scale, (longer, centre, last) in zip((256, 288, 320, 352), expected, strict=True):
        resized = (scale, longer) if is_portrait else (longer, scale)
        assert resized_size(width, height, scale) == resized
        wholes = [c for c in GOOGLENET.crops if c.scale == scale and c.position == "whole" and not c.mirrored]
        views = [GOOGLENET.view_of(crop, width, height) for crop in wholes]
        assert [view.top if is_portrait else view.left for view in views] == [centre, 0, last]
        assert {view.left if is_portrait else view.top for view in views} == {0}


def test_the_144_crops_come_in_the_contracts_order() -> None:
    order = [(crop.scale, crop.square, crop.position, crop.mirrored) for crop in GOOGLENET.crops]
    assert order == [
        (scale, square, position, mirrored)
        for scale in (256, 288, 320, 352)
        for square in ("centre", "first", "last")
        for position in POSITIONS
        for mirrored in (False, True)
    ]


def test_the_first_crop_and_the_first_ten_are_the_fields_schemes() -> None:
    one = _view(256, 58, 16, 224, mirrored=False)
    corners = [(58, 16), (42, 0), (74, 0), (42, 32), (74, 32)]
    ten = [_view(256, x, y, 224, mirrored=mirrored) for x, y in corners for mirrored in (False, True)]
    assert googlenet_plan(500, 375, 1).views == (one,)
    assert list(googlenet_plan(500, 375, 10).views) == ten
    assert list(googlenet_plan(500, 375, 144).views[:10]) == ten
    assert [googlenet_plan(500, 375, crops).crops for crops in (1, 10, 144)] == [1, 10, 144]


def test_a_square_image_has_48_views_of_weight_3() -> None:
    square = googlenet_plan(300, 300, 144)
    [group] = square.groups
    assert len(square.views) == 48
    assert group.weights[144] == (3,) * 48
    assert group.weights[10] == (1,) * 10 + (0,) * 38
    assert group.weights[1] == (1,) + (0,) * 47
    some = [GOOGLENET.views_of(300, 300)[start : start + 12] for start in (0, 36, 72, 108)]
    assert list(square.views) == [view for views in some for view in views]


def test_an_image_one_pixel_from_square_shares_its_first_and_centre_squares() -> None:
    almost_square = googlenet_plan(257, 256, 144)
    assert len(almost_square.views) == 96
    assert sorted(set(almost_square.groups[0].weights[144])) == [1, 2]


SIDES = st.integers(min_value=1, max_value=3000)


@given(SIDES, SIDES)
def test_every_view_lies_inside_its_resized_image_and_weights_add_up(width: int, height: int) -> None:
    crop_plan = googlenet_plan(width, height, 144)
    [group] = crop_plan.groups
    assert {scheme: sum(weights) for scheme, weights in group.weights.items()} == {s: s for s in GOOGLENET.schemes}
    assert len(set(crop_plan.views)) == len(crop_plan.views)
    for view in crop_plan.views:
        new_width, new_height = resized_size(width, height, view.canvas.scale)
        assert 0 <= view.left <= new_width - view.side
        assert 0 <= view.top <= new_height - view.side
    for weights in group.weights.values():
        assert len(weights) == len(crop_plan.views)


@given(SIDES, SIDES)
def test_the_mirror_of_every_view_is_the_next_one(width: int, height: int) -> None:
    views = GOOGLENET.views_of(width, height)
    for view, mirror in zip(views[::2], views[1::2], strict=True):
        assert not view.mirrored
        assert mirror.mirrored
        assert replace(mirror, mirrored=False) == view


@given(SIDES, SIDES, st.sampled_from(GOOGLENET.scales))
def test_the_resized_size_is_torchvisions(width: int, height: int, scale: int) -> None:
    new_height, new_width = _compute_resized_output_size((height, width), [scale])
    assert resized_size(width, height, scale) == (new_width, new_height)
    assert max(new_width, new_height) == int(scale * max(width, height) / min(width, height))


@pytest.mark.parametrize("crops", [0, -1, 2, 12, 145])
def test_an_unknown_scheme_is_refused_and_the_known_ones_are_named(crops: int) -> None:
    with pytest.raises(InputError, match=f"no scheme of {crops} crops in googlenet; choose one of 1, 10, 144"):
        GOOGLENET.schemes_up_to(crops)


def test_schemes_up_to_a_scheme_are_its_prefixes() -> None:
    assert [GOOGLENET.schemes_up_to(crops) for crops in (1, 10, 144)] == [(1,), (1, 10), (1, 10, 144)]


def test_the_protocol_of_each_member_is_not_read_without_a_member() -> None:
    with pytest.raises(InputError, match=r"timm is the crop .* there is no member here; choose another protocol"):
        read_protocol("timm")


@pytest.mark.parametrize("name", ["vgg-150", "timm"])
def test_a_file_cannot_take_the_name_of_another_protocol(name: str, tmp_path: Path) -> None:
    """Published errors are looked up by name."""
    Path(tmp_path, "a.toml").write_text(f'name = "{name}"\nsize = 8\nscales = [9]\nschemes = [1]\n')
    with pytest.raises(InputError, match=rf"a\.toml: {name} is the name of another protocol; choose a new `name`"):
        read_protocol("a.toml", tmp_path)
