"""The picture of the boxes, looked at by the colours of its pixels."""

from pathlib import Path

import numpy as np
import pytest
from builders import picture
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ensemble_eval.crops.pictures import COLOURS, MARGIN, OVERVIEW_FILE, boxed, overview, write_crops
from ensemble_eval.crops.protocols import GOOGLENET, PROTOCOLS, own_protocol

BLACK = Image.new("RGB", (400, 300))
WHITE = Image.new("RGB", (400, 300), "white")


def _is(shown: Image.Image, position: str) -> NDArray[np.bool_]:
    """Where a picture has a box's colour, its margin taken off."""
    pixels = np.asarray(shown)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    same: NDArray[np.bool_] = (pixels == COLOURS[position]).all(axis=2)
    return same


def test_the_one_crop_is_a_box_in_the_centre_of_the_resized_image() -> None:
    """By hand: 400 x 300 becomes 341 x 256; the square begins at 42, and the box 16 pixels within."""
    shown = boxed(BLACK, GOOGLENET, GOOGLENET.crops[:1])
    assert shown.size == (341 + 2 * MARGIN, 256 + 2 * MARGIN)
    rows, columns = np.nonzero(_is(shown, "centre"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 239, 58, 281)
    assert len(rows) == 224**2 - 220**2  # nothing but an outline of two pixels
    assert not any(_is(shown, other).any() for other in COLOURS if other != "centre")


@pytest.mark.parametrize(
    ("position", "pixels"),
    [
        # Each where no other box has an edge, as (x, y): an outer corner, and a stretch of an inner edge.
        ("top-left", [(42, 0), (42, 31), (73, 0), (264, 20)]),
        ("top-right", [(297, 0), (297, 31), (267, 0), (75, 20)]),
        ("bottom-left", [(42, 255), (42, 230), (73, 255), (264, 250)]),
        ("bottom-right", [(297, 255), (297, 230), (267, 255), (75, 250)]),
        ("centre", [(58, 100), (281, 100), (150, 16), (150, 239)]),
    ],
)
def test_the_ten_crops_are_the_corners_and_the_centre_of_the_central_square(
    position: str, pixels: list[tuple[int, int]]
) -> None:
    mask = _is(boxed(BLACK, GOOGLENET, GOOGLENET.crops[:10]), position)
    assert [mask[y, x] for x, y in pixels] == [True] * len(pixels)
    assert not mask[:, :42].any()
    assert not mask[:, 298:].any()


@pytest.mark.parametrize(
    ("first", "scale", "left"),
    [(0, 256, 42), (12, 256, 0), (24, 256, 85), (108, 352, 58), (120, 352, 0), (132, 352, 117)],
)
def test_a_group_lies_in_its_square_and_all_else_is_dimmed(first: int, scale: int, left: int) -> None:
    shown = np.asarray(boxed(WHITE, GOOGLENET, GOOGLENET.crops[first : first + 12])).astype(int)
    inside = shown[MARGIN + 10, MARGIN + left + 10]
    assert inside.tolist() == [255, 255, 255]
    for x in {left - 10, left + scale + 10} & set(range(scale * 4 // 3)):
        assert shown[MARGIN + 10, MARGIN + x].tolist() == [102, 102, 102]
    # The whole square is drawn around the others' edges.
    whole = (shown == COLOURS["whole"]).all(axis=2).nonzero()
    edges = (whole[0].min(), whole[0].max(), whole[1].min(), whole[1].max())
    assert edges == tuple(MARGIN + edge for edge in (-2, scale + 1, left - 2, left + scale + 1))


def test_a_smaller_drawing_has_its_boxes_where_the_larger_one_has_them() -> None:
    rows, columns = np.nonzero(_is(boxed(BLACK, GOOGLENET, GOOGLENET.crops[108:109], 0.5), "centre"))
    # By hand: at scale 352 the square begins at 58 and the box 64 pixels within.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 143, 61, 172)


def test_the_overview_has_the_two_smaller_schemes_and_the_twelve_groups() -> None:
    shown = np.asarray(overview(BLACK, GOOGLENET))
    # By hand: two boxes of the centre in full size, twelve in half, all outlines of two pixels, and the legend's.
    expected = 2 * (224**2 - 220**2) + 12 * (112**2 - 108**2) + 11**2
    assert np.count_nonzero((shown == COLOURS["centre"]).all(axis=2)) == expected
    assert np.count_nonzero((shown == COLOURS["whole"]).all(axis=2)) > 12 * 4 * 128


def test_the_text_of_the_overview_says_where_boxes_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: at scale 256 the 400 x 300 become 341 x 256, at 352 they become 469 x 352."""
    texts = list[str]()
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *given, **_: texts.append(given[2]))
    overview(BLACK, GOOGLENET)
    expected = [
        "the image resized to 341 by 256, its shorter side to 256",
        "the central square, x 42 to 298, y 0 to 256",
        "boxes begin at x 58 and y 16",
        "boxes begin at x 42, 58, 74 and y 0, 16, 32",
        "144 crops, 132 to 143: scale 352, right square",
        "x 117 to 469, y 0 to 352",
        "boxes begin at x 117, 181, 245 and y 0, 64, 128",
    ]
    assert [text for text in expected if text not in texts] == []


def test_the_overview_ends_with_the_whole_legend_and_a_margin() -> None:
    # A line of text takes 16 pixels, and the margin 14.
    shown = np.asarray(overview(WHITE, GOOGLENET).convert("L"))
    assert shown[-14:].min() == 255
    assert shown[-30:-14].min() < 64


@pytest.mark.parametrize("size", [(300, 400), (64, 64), (1200, 30), (20, 900)])
def test_images_of_any_shape_have_an_overview_of_bounded_size(size: tuple[int, int]) -> None:
    shown = overview(picture(*size), GOOGLENET)
    assert max(shown.size) < 3000
    assert shown.getpixel((0, 0)) == shown.getpixel((shown.width - 1, shown.height - 1)) == (255, 255, 255)


def test_the_corners_and_the_centre_of_a_grid_are_coloured_and_its_other_cells_are_thin() -> None:
    """By hand: at scale 384 the 400 x 300 become 512 x 384, and boxes begin at steps of 72 and 40."""
    protocol = PROTOCOLS["vgg-150"]
    shown = boxed(BLACK, protocol, protocol.crops[:50])
    starts = {"top-left": (0, 0), "top-right": (288, 0), "bottom-left": (0, 160), "bottom-right": (288, 160)}
    for position, (left, top) in {**starts, "centre": (144, 80)}.items():
        rows, columns = np.nonzero(_is(shown, position))
        edges = (rows.min(), rows.max(), columns.min(), columns.max())
        assert edges == (top, top + 223, left, left + 223), position
    # The left edge of the second column of boxes, where no other box has an edge.
    across = np.asarray(shown)[MARGIN + 15, MARGIN + 70 : MARGIN + 75].max(axis=1)
    assert across.tolist() == [0, 0, 235, 0, 0]


@pytest.mark.parametrize(
    "name", ["krizhevsky-10", "googlenet-12", pytest.param("vgg-150", marks=pytest.mark.slow)]
)
def test_the_file_of_an_overview_has_every_colour_of_its_boxes(name: str, tmp_path: Path) -> None:
    # Few pixels make many colours, and cost little to compress once they are resized.
    picture(20, 15).save(tmp_path / "a.png")
    write_crops(tmp_path / "a.png", tmp_path, PROTOCOLS[name])
    with Image.open(tmp_path / OVERVIEW_FILE) as opened:
        found = {colour for _, colour in opened.convert("RGB").getcolors(1 << 24) or []}
    assert found >= {colour for place, colour in COLOURS.items() if place != "whole" or name == "googlenet-12"}


def test_the_only_square_stands_beside_the_smaller_schemes_in_full_size() -> None:
    shown = np.asarray(overview(BLACK, PROTOCOLS["krizhevsky-10"]))
    # By hand: two boxes of the centre in full size, all outlines of two pixels, and the legend's.
    assert np.count_nonzero((shown == COLOURS["centre"]).all(axis=2)) == 2 * (224**2 - 220**2) + 11**2


def test_a_padded_image_lies_in_the_middle_of_its_canvas() -> None:
    protocol = own_protocol(224, 224, "border", "bilinear", (0.0, 0.0, 0.0))
    # By hand: 400 x 300 becomes 224 x 168 with 28 black rows above and below; the drawing has half of these.
    column = np.asarray(boxed(WHITE, protocol, protocol.crops, 0.5).convert("L"))[MARGIN:-MARGIN, MARGIN + 20]
    assert len(column) == 112
    assert [int(column[row]) for row in (11, 15, 96, 100)] == [0, 255, 255, 0]
