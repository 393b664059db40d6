"""Pictures that show the crops of an image: each of the 144 as a file, a labelled sheet of all, and an overview.

The overview draws the boxes of the 1, 10 and 144 crops into the image: those of `schemes`, which evaluations cut.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from ensemble_eval.crops import pixels, schemes
from ensemble_eval.crops.schemes import CROPS, Crop, Position, View
from ensemble_eval.errors import InputError, UnreadableImageError, refusing
from ensemble_eval.files import atomic_path, read_regular

SHEET_FILE = "sheet.png"
OVERVIEW_FILE = "overview.png"
# Of the overview's palette: enough for a photograph behind boxes, and a file that a page may show.
_OVERVIEW_COLOURS = 128
_THUMBNAIL = 112
_LABEL_HEIGHT = 14
_HEADING_WIDTH = 92
_SHEET_COLUMNS = 12

# Far from one another, and from most of what photographs hold.
COLOURS: dict[Position, tuple[int, int, int]] = {
    "whole": (220, 0, 0),
    "top-left": (0, 190, 255),
    "top-right": (255, 70, 215),
    "bottom-left": (95, 235, 60),
    "bottom-right": (255, 130, 0),
    "centre": (255, 240, 0),
}
# White, on all sides of a picture: a line fits around a box at its edge.
MARGIN = 4
# Brightness outside of the square of a group of crops.
_DIMMED = 0.4
_LINE = 2
_GAP = 14
_TEXT_SIZE, _TITLE_SIZE = 12, 15
_TEXT_HEIGHT, _TITLE_HEIGHT = 16, 22
# Sides of the pictures: as large as the resized image, or half as large, unless it is a panorama.
_LONGEST_SIDE = 420
_GROUP = 12
_COLUMNS = 3


def write_crops(image: Path, out: Path) -> Path:
    """Write `000.png … 143.png` in the crop order, a contact sheet of 12 rows of 12, and an overview of the boxes.

    Returns the sheet's path.

    Raises:
        InputError: the image cannot be read, or `out` cannot be written.
    """
    with refusing(f"{image} cannot be read", "check the path", OSError, MemoryError):
        data = read_regular(image)
    try:
        decoded = pixels.decode(data)
        _, height, width = decoded.shape
        source = pixels.prepare(decoded, schemes.plan(width, height, len(CROPS)))
    except UnreadableImageError as error:
        raise InputError(f"{image} is not usable: {error}") from error
    pictures = [_picture(source.cut(view)) for view in schemes.views_of(width, height)]
    for index, picture in enumerate(pictures):
        _save(picture, out / f"{index:03}.png")
    _save(_sheet(pictures), out / SHEET_FILE)
    _save(overview(_picture(decoded)).quantize(_OVERVIEW_COLOURS), out / OVERVIEW_FILE)
    return out / SHEET_FILE


def overview(image: Image.Image) -> Image.Image:
    """The boxes of the three schemes: one crop, ten crops, and below them the twelve groups of the 144.

    Args:
        image: RGB, of any size.
    """
    first, groups, legend = list(_first_schemes(image)), list(_groups(image)), _legend()
    rows = [first] + [groups[index : index + _COLUMNS] for index in range(0, len(groups), _COLUMNS)]
    # The groups' columns stand below one another; the first row has its own.
    columns = [max(panel.width for panel in panels) for panels in (first, groups)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = _GAP + max(len(first) * columns[0], _COLUMNS * columns[1], legend.width + _GAP)
    sheet = Image.new("RGB", (width, sum(heights) + legend.height + 2 * _GAP), "white")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for index, panel in enumerate(row):
            sheet.paste(panel, (_GAP + index * columns[row is not first], top))
        top += height
    sheet.paste(legend, (_GAP, top))
    return sheet


def boxed(image: Image.Image, group: Sequence[Crop], zoom: float = 1.0) -> Image.Image:
    """The image resized to the scale of some crops, their boxes in it, and all but their square dimmed.

    Args:
        image: RGB, of any size.
        group: crops of one scale and one square; a mirrored one has the box of its mirror.
        zoom: of the drawing; at 1 it has the pixels of the resized image, and a margin around them.
    """
    width, height = schemes.resized_size(*image.size, group[0].scale)
    shown = image.resize((round(width * zoom), round(height * zoom)), Image.Resampling.BILINEAR)
    dimmed = shown.point([round(_DIMMED * value) for value in range(256)] * 3)
    whole = Crop(group[0].scale, group[0].square, "whole", mirrored=False)
    square = _zoomed(schemes.view_of(whole, *image.size), zoom)
    dimmed.paste(shown.crop(square), square[:2])
    picture = ImageOps.expand(dimmed, MARGIN, "white")
    draw = ImageDraw.Draw(picture)
    views = {crop.position: schemes.view_of(crop, *image.size) for crop in group}
    for position, colour in COLOURS.items():
        if position in views:
            # The corners' boxes cover the whole square's edges, so that is drawn around them.
            around = _LINE if position == "whole" else 0
            left, top, right, bottom = (MARGIN + edge for edge in _zoomed(views[position], zoom))
            corners = (left - around, top - around, right - 1 + around, bottom - 1 + around)
            draw.rectangle(corners, outline=colour, width=_LINE)
    return picture


def _first_schemes(image: Image.Image) -> Iterator[Image.Image]:
    zoom = _zoom(image, 1.0)
    width, height = schemes.resized_size(*image.size, CROPS[0].scale)
    resized = f"the image resized to {width} by {height}, its shorter side to {CROPS[0].scale}"
    yield _panel("1 crop", boxed(image, CROPS[:1], zoom), (resized, f"the centre: {_range(image, CROPS[0])}"))
    yield _panel(
        "10 crops",
        boxed(image, CROPS[:10], zoom),
        (f"centre and corners of the central square, {_range(image, CROPS[10])}", _starts(image, CROPS[:10])),
    )


def _groups(image: Image.Image) -> Iterator[Image.Image]:
    zoom = _zoom(image, 0.5)
    for first in range(0, len(CROPS), _GROUP):
        group = CROPS[first : first + _GROUP]
        yield _panel(
            f"144 crops, {first} to {first + _GROUP - 1}: scale {group[0].scale}, {_where(image, group[0])}",
            boxed(image, group, zoom),
            (f"square {_range(image, group[-1])}", _starts(image, group)),
        )


def _panel(title: str, picture: Image.Image, text: Sequence[str]) -> Image.Image:
    """A picture with a heading above it, lines of text below it, and a gap to its right and below."""
    width = max(picture.width, _width([title], _TITLE_SIZE), _width(text))
    text_top = _TITLE_HEIGHT + picture.height + 4
    panel = Image.new("RGB", (width + _GAP, text_top + _TEXT_HEIGHT * len(text) + _GAP), "white")
    ImageDraw.Draw(panel).text((0, 0), title, fill="black", font=ImageFont.load_default(_TITLE_SIZE))
    panel.paste(picture, (0, _TITLE_HEIGHT))
    _write(panel, text_top, text)
    return panel


def _write(picture: Image.Image, top: int, lines: Sequence[str]) -> None:
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((0, top + number * _TEXT_HEIGHT), line, fill="black", font=ImageFont.load_default(_TEXT_SIZE))


def _width(lines: Sequence[str], size: int = _TEXT_SIZE) -> int:
    """The width in pixels of the longest of some lines."""
    return max(round(ImageFont.load_default(size).getlength(line)) for line in lines)


def _legend() -> Image.Image:
    """The colours, and what the text cannot say at every picture."""
    lines = (
        "Boxes are 224 by 224 pixels of the resized image; the whole square is resized to that.",
        "The 1 crop is one box, as it is. The 10 crops are five boxes, each as it is and mirrored.",
        "The 144 crops are twelve groups of six boxes, each as it is and mirrored.",
    )
    legend = Image.new("RGB", (_width(lines), _TEXT_HEIGHT * (len(lines) + 1) + 6), "white")
    draw = ImageDraw.Draw(legend)
    left = 0
    for position, colour in COLOURS.items():
        draw.rectangle((left, 1, left + 12, 13), fill=colour, outline="black")
        draw.text((left + 18, 0), position, fill="black", font=ImageFont.load_default(_TEXT_SIZE))
        left += 18 + _width([position]) + _GAP
    _write(legend, _TEXT_HEIGHT + 6, lines)
    return legend


def _zoom(image: Image.Image, zoom: float) -> float:
    longest = max(schemes.resized_size(*image.size, schemes.SCALES[-1]))
    return min(zoom, zoom * 2 * _LONGEST_SIDE / longest)


def _zoomed(view: View, zoom: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box in the drawing."""
    edges = (view.left, view.top, view.left + view.side, view.top + view.side)
    left, top, right, bottom = (round(edge * zoom) for edge in edges)
    return left, top, right, bottom


def _range(image: Image.Image, crop: Crop) -> str:
    view = schemes.view_of(crop, *image.size)
    return f"x {view.left} to {view.left + view.side}, y {view.top} to {view.top + view.side}"


def _where(image: Image.Image, crop: Crop) -> str:
    """The crop's square in words."""
    names = ("left", "right") if image.width >= image.height else ("top", "bottom")
    return {"centre": "centre", "first": names[0], "last": names[1]}[crop.square]


def _starts(image: Image.Image, group: Sequence[Crop]) -> str:
    """Where boxes of side 224 begin."""
    views = [schemes.view_of(crop, *image.size) for crop in group if crop.position != "whole"]
    lefts, tops = (sorted(set(starts)) for starts in ([v.left for v in views], [v.top for v in views]))
    return f"boxes begin at x {', '.join(map(str, lefts))} and y {', '.join(map(str, tops))}"


def _picture(image: Tensor) -> Image.Image:
    """Of uint8 [3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    """One row per group of twelve: a heading with scale and square, then the crops with number and position."""
    rows = len(pictures) // _SHEET_COLUMNS
    cell_height = _THUMBNAIL + _LABEL_HEIGHT
    sheet = Image.new("RGB", (_HEADING_WIDTH + _SHEET_COLUMNS * _THUMBNAIL, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, crop) in enumerate(zip(pictures, CROPS, strict=True)):
        row, column = divmod(index, _SHEET_COLUMNS)
        x, y = _HEADING_WIDTH + column * _THUMBNAIL, row * cell_height
        if column == 0:
            draw.text((4, y + _LABEL_HEIGHT), f"scale {crop.scale}\n{crop.square} square", fill="black")
        mirrored = " mirror" if crop.mirrored else ""
        draw.text((x + 2, y + 1), f"{index} {crop.position}{mirrored}", fill="black")
        thumbnail = picture.resize((_THUMBNAIL - 2, _THUMBNAIL - 2), Image.Resampling.BILINEAR)
        sheet.paste(thumbnail, (x, y + _LABEL_HEIGHT))
    return sheet


def _save(picture: Image.Image, path: Path) -> None:
    # Pictures to look at can be made again, so they are not worth waiting for the disk.
    with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
        picture.save(file, format="PNG", optimize=picture.mode == "P")
