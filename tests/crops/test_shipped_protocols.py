"""The shipped protocols: what each cuts from odd, portrait and tiny images, worked out by hand."""

from collections.abc import Iterator, Sequence
from itertools import product

import pytest

from ensemble_eval.crops.protocols import PROTOCOLS, Protocol, own_protocol
from ensemble_eval.crops.views import Canvas, View

Corner = tuple[int, int]

# Input size, scales, number of crops and schemes.
TABLE: dict[str, tuple[int, tuple[int, ...], int, tuple[int, ...]]] = {
    "googlenet": (224, (256, 288, 320, 352), 144, (1, 10, 144)),
    "krizhevsky-10": (224, (256,), 10, (1, 10)),
    "torchvision-ten-crop": (224, (256,), 10, (1, 10)),
    "resnet-10": (224, (256,), 10, (1, 10)),
    "googlenet-12": (224, (256,), 12, (12,)),
    "inception-235": (235, (270, 300, 330, 360), 144, (1, 12, 144)),
    "inception-299": (299, (320, 352, 384, 416), 144, (1, 12, 144)),
    "inception-320": (320, (352, 384, 416, 448), 144, (1, 12, 144)),
    "vgg-150": (224, (384, 256, 512), 150, (50, 150)),
}


def test_these_are_the_shipped_protocols() -> None:
    shipped = {name: (each.size, each.scales, len(each.crops), each.schemes) for name, each in PROTOCOLS.items()}
    assert shipped == TABLE
    assert list(shipped) == list(TABLE)
    assert [each.name for each in PROTOCOLS.values()] == list(PROTOCOLS)


@pytest.mark.parametrize("name", TABLE)
def test_no_crop_of_a_wide_image_is_cut_twice(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert len(set(protocol.crops)) == len(protocol.crops)
    assert len(set(protocol.views_of(1000, 399))) == len(protocol.crops)


def _starts(protocol: Protocol, width: int, height: int) -> list[tuple[int, int, bool]]:
    return [(view.left, view.top, view.mirrored) for view in protocol.views_of(width, height)]


def _each_then_its_mirror(corners: Sequence[Corner]) -> list[tuple[int, int, bool]]:
    return [(left, top, mirrored) for left, top in corners for mirrored in (False, True)]


# Columns of corners: centre, top left, top right, bottom left, bottom right.
# 501 × 333 becomes 385 × 256, of which the central square begins at 64.5, rounded to even; 67 × 101 becomes
# 256 × 385; 3 × 2 becomes 384 × 256; one pixel becomes 256 × 256.
CENTRAL_SQUARE: dict[tuple[int, int], list[Corner]] = {
    (501, 333): [(80, 16), (64, 0), (96, 0), (64, 32), (96, 32)],
    (67, 101): [(16, 80), (0, 64), (32, 64), (0, 96), (32, 96)],
    (3, 2): [(80, 16), (64, 0), (96, 0), (64, 32), (96, 32)],
    (1, 1): [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32)],
}


@pytest.mark.parametrize("name", ["krizhevsky-10", "googlenet"])
@pytest.mark.parametrize(("size", "corners"), CENTRAL_SQUARE.items())
def test_krizhevskys_ten_are_those_of_the_central_square(name: str, size: Corner, corners: list[Corner]) -> None:
    assert _starts(PROTOCOLS[name], *size)[:10] == _each_then_its_mirror(corners)


# The five of the image, and those of its mirror image in pixels of the image. An odd width has another centre in
# the mirror image: 161 / 2 is 80 from the left there, which is 81 here.
WHOLE_IMAGE: dict[tuple[int, int], tuple[list[Corner], list[Corner]]] = {
    (501, 333): (
        [(80, 16), (0, 0), (161, 0), (0, 32), (161, 32)],
        [(81, 16), (161, 0), (0, 0), (161, 32), (0, 32)],
    ),
    (67, 101): (
        [(16, 80), (0, 0), (32, 0), (0, 161), (32, 161)],
        [(16, 80), (32, 0), (0, 0), (32, 161), (0, 161)],
    ),
    (3, 2): (
        [(80, 16), (0, 0), (160, 0), (0, 32), (160, 32)],
        [(80, 16), (160, 0), (0, 0), (160, 32), (0, 32)],
    ),
    (1, 1): (
        [(16, 16), (0, 0), (32, 0), (0, 32), (32, 32)],
        [(16, 16), (32, 0), (0, 0), (32, 32), (0, 32)],
    ),
}


@pytest.mark.parametrize(("name", "resampling"), [("torchvision-ten-crop", "bilinear"), ("resnet-10", "bicubic")])
@pytest.mark.parametrize(("size", "corners"), WHOLE_IMAGE.items())
def test_ten_crops_of_the_whole_image_and_of_its_mirror_image(
    name: str, resampling: str, size: Corner, corners: tuple[list[Corner], list[Corner]]
) -> None:
    plain, mirrored = corners
    found = _starts(PROTOCOLS[name], *size)
    assert found == [(*each, False) for each in plain] + [(*each, True) for each in mirrored]
    canvases = {view.canvas for view in PROTOCOLS[name].views_of(*size)}
    assert canvases == {Canvas(256, "shorter", resampling, "torch", 0, (0, 0, 0))}  # type: ignore[arg-type]  # texts of a table


@pytest.mark.parametrize("size", [(501, 333), (67, 101), (3, 2), (1, 1)])
def test_the_twelve_of_the_squeezed_image(size: Corner) -> None:
    boxes = [(view.left, view.top, view.side, view.mirrored) for view in PROTOCOLS["googlenet-12"].views_of(*size)]
    # Of whatever image 256 × 256 pixels are made. The mirror of the left corner shows the right one.
    assert boxes == [
        *((16, 16, 224, False), (16, 16, 224, True)),
        *((0, 0, 224, False), (32, 0, 224, True)),
        *((32, 0, 224, False), (0, 0, 224, True)),
        *((0, 32, 224, False), (32, 32, 224, True)),
        *((32, 32, 224, False), (0, 32, 224, True)),
        *((0, 0, 256, False), (0, 0, 256, True)),
    ]
    canvas = PROTOCOLS["googlenet-12"].canvas(256)
    assert canvas.resized(*size) == canvas.padded(*size) == (256, 256)


# For each scale: where crops begin in a square (the middle rounded to even, and the far end), and for each image
# the resized longer side and where the centre and the last square begin along it.
MIDDLE_AND_FAR = {
    "inception-235": [(18, 35), (32, 65), (48, 95), (62, 125)],
    "inception-299": [(10, 21), (26, 53), (42, 85), (58, 117)],
    "inception-320": [(16, 32), (32, 64), (48, 96), (64, 128)],
}
LONGER_SIDES = {
    ("inception-235", 501, 333): [(406, 68, 136), (451, 76, 151), (496, 83, 166), (541, 90, 181)],
    ("inception-299", 501, 333): [(481, 80, 161), (529, 88, 177), (577, 96, 193), (625, 104, 209)],
    ("inception-320", 501, 333): [(529, 88, 177), (577, 96, 193), (625, 104, 209), (674, 113, 226)],
    ("inception-235", 3, 2): [(405, 68, 135), (450, 75, 150), (495, 82, 165), (540, 90, 180)],
    ("inception-299", 3, 2): [(480, 80, 160), (528, 88, 176), (576, 96, 192), (624, 104, 208)],
    ("inception-320", 3, 2): [(528, 88, 176), (576, 96, 192), (624, 104, 208), (672, 112, 224)],
    ("inception-299", 1, 1): [(320, 0, 0), (352, 0, 0), (384, 0, 0), (416, 0, 0)],
}


def _rule_of_144(protocol: Protocol, longer_sides: Sequence[tuple[int, int, int]]) -> Iterator[View]:
    """The crops of a landscape image from the table above."""
    steps = zip(protocol.scales, MIDDLE_AND_FAR[protocol.name], longer_sides, strict=True)
    for scale, (middle, far), (_, centre, last) in steps:
        canvas = Canvas(scale, "shorter", "bilinear", "torch", 0, (0, 0, 0))
        corners = [(middle, middle), (0, 0), (far, 0), (0, far), (far, far)]
        for square in (centre, 0, last):
            boxes = [(x, y, protocol.size) for x, y in corners] + [(0, 0, scale)]
            for (x, y, side), mirrored in product(boxes, (False, True)):
                yield View(canvas, square + x, y, side, protocol.size, mirrored)


@pytest.mark.parametrize(("case", "longer_sides"), LONGER_SIDES.items())
@pytest.mark.parametrize("is_portrait", [False, True])
def test_the_rule_of_144_at_other_sizes(
    case: tuple[str, int, int], longer_sides: list[tuple[int, int, int]], is_portrait: bool
) -> None:
    name, width, height = case
    protocol = PROTOCOLS[name]
    expected = list(_rule_of_144(protocol, longer_sides))
    if is_portrait:
        found = protocol.views_of(height, width)
        corners = [(view.top, view.left) for view in found]
        # Exchanging width and height exchanges the top right and the bottom left corner.
        assert [sorted(corners[start : start + 12]) for start in range(0, 144, 12)] == [
            sorted((view.left, view.top) for view in expected[start : start + 12]) for start in range(0, 144, 12)
        ]
    else:
        assert protocol.views_of(width, height) == expected
    for scale, (longer, _, _) in zip(protocol.scales, longer_sides, strict=True):
        size = (height, width) if is_portrait else (width, height)
        assert sorted(protocol.canvas(scale).resized(*size)) == [scale, longer]


# For each scale in the protocol's order: the columns and the rows of the grid of a landscape image.
# At 384: 577 × 384, quarters of 353; at 256: 385 × 256, quarters of 161; at 512: 770 × 512, quarters of 546.
GRID_501_333 = {
    384: ((0, 88, 176, 264, 353), (0, 40, 80, 120, 160)),
    256: ((0, 40, 80, 120, 161), (0, 8, 16, 24, 32)),
    512: ((0, 136, 273, 409, 546), (0, 72, 144, 216, 288)),
}
# At 384: 384 × 384, and so on: a single pixel.
GRID_1_1 = {384: 2 * ((0, 40, 80, 120, 160),), 256: 2 * ((0, 8, 16, 24, 32),), 512: 2 * ((0, 72, 144, 216, 288),)}


@pytest.mark.parametrize(("width", "height", "grid"), [(501, 333, GRID_501_333), (1, 1, GRID_1_1)])
@pytest.mark.parametrize("is_portrait", [False, True])
def test_vggs_grid_spans_the_whole_image(
    width: int, height: int, grid: dict[int, tuple[tuple[int, ...], ...]], is_portrait: bool
) -> None:
    protocol = PROTOCOLS["vgg-150"]
    expected = []
    for scale in (384, 256, 512):
        columns, rows = reversed(grid[scale]) if is_portrait else grid[scale]
        expected += [(scale, x, y, 224, mirrored) for y in rows for x in columns for mirrored in (False, True)]
    views = protocol.views_of(height, width) if is_portrait else protocol.views_of(width, height)
    assert [(v.canvas.scale, v.left, v.top, v.side, v.mirrored) for v in views] == expected


# Size, scale, mode, image, size after resizing, canvas, and where the crop begins.
OWN = [
    # 341 · 501 / 333 is 513.03; (513 - 299) / 2 is 107 and (341 - 299) / 2 is 21.
    (299, 341, "center", (501, 333), (513, 341), (513, 341), (107, 21)),
    (299, 341, "center", (2, 3), (341, 511), (341, 511), (21, 106)),
    # 235 - 224 is 11, half of it is rounded to the even 6.
    (224, 235, "center", (100, 100), (235, 235), (235, 235), (6, 6)),
    # A crop above the whole: 389 · 501 / 333 is 585.25; 137 / 2 is 68.5, and the height is padded.
    (448, 389, "center", (501, 333), (585, 389), (585, 448), (68, 0)),
    (448, 389, "center", (1, 1), (389, 389), (448, 448), (0, 0)),
    (288, 288, "squash", (501, 333), (288, 288), (288, 288), (0, 0)),
    (336, 373, "squash", (3, 7), (373, 373), (373, 373), (18, 18)),
    # 333 · 224 / 501 is 148.9, and 100 · 255 / 300 is 85.
    (224, 224, "border", (501, 333), (224, 149), (224, 224), (0, 0)),
    (224, 255, "border", (100, 300), (85, 255), (224, 255), (0, 16)),
    (224, 224, "border", (1, 90), (2, 224), (224, 224), (0, 0)),
]


@pytest.mark.parametrize(("size", "scale", "mode", "image", "resized", "padded", "corner"), OWN)
def test_the_one_crop_of_a_members_own_protocol(
    size: int, scale: int, mode: str, image: Corner, resized: Corner, padded: Corner, corner: Corner
) -> None:
    protocol = own_protocol(size, scale, mode, "bicubic", (0.5, 0.1, 1.0))  # type: ignore[arg-type]  # texts of a table
    [view] = protocol.views_of(*image)
    assert (view.canvas.resized(*image), view.canvas.padded(*image)) == (resized, padded)
    assert ((view.left, view.top), view.side, view.size, view.mirrored) == (corner, size, size, False)
    # Halves of grey levels are rounded to even: 127.5 and 25.5.
    assert view.canvas.fill == ((128, 26, 255) if mode == "border" else (0, 0, 0))
    assert protocol.schemes == (1,)
