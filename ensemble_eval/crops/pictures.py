"""Pictures that show the crops of an image: each as a file, a sheet of all, and an overview of the boxes."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import Crop, Protocol
from ensemble_eval.crops.views import Fit
from ensemble_eval.errors import InputError, UnreadableImageError, refusing
from ensemble_eval.files import atomic_path, read_regular

# Left, top, right and bottom.
Box = tuple[int, int, int, int]

SHEET_FILE = "sheet.png"
OVERVIEW_FILE = "overview.png"
# Of the overview's palette: enough for a photograph behind boxes, and a file that a page may show.
_OVERVIEW_COLOURS = 64
_THUMBNAIL = 112
_LABEL_HEIGHT = 14
_HEADING_WIDTH = 92
_SHEET_COLUMNS = 12
_MOST_PANELS = 24

# Far from one another, and from most of what photographs hold.
COLOURS: dict[str, tuple[int, int, int]] = {
    "whole": (220, 0, 0),
    "top-left": (0, 190, 255),
    "top-right": (255, 70, 215),
    "bottom-left": (95, 235, 60),
    "bottom-right": (255, 130, 0),
    "centre": (255, 240, 0),
}
_DRAWN = tuple(COLOURS)
# The cells of a grid that are not a corner or the centre of the square, drawn with thin lines.
_CELL, _CELL_COLOUR = "other cells of the grid", (235, 235, 235)
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
_COLUMNS = 3
_FITS: dict[Fit, str] = {"shorter": "its shorter side", "longer": "its longer side", "squeeze": "both sides"}


def write_crops(image: Path, out: Path, protocol: Protocol) -> Path:
    """Write the crops as `000.png`, `001.png` and so on, a contact sheet, and an overview of the boxes.

    Returns the sheet's path.

    Raises:
        InputError: The image cannot be read, or `out` cannot be written.
    """
    with refusing(f"{image} cannot be read", "check the path", OSError, MemoryError):
        data = read_regular(image)
    try:
        decoded = pixels.decode(data)
        _, height, width = decoded.shape
        source = pixels.prepare(decoded, CropRule((protocol,), len(protocol.crops)).plan(width, height))
    except UnreadableImageError as error:
        raise InputError(f"{image} is not usable: {error}") from error
    [group] = source.plan.groups
    pictures = [pixels.picture_of(source.cut(source.plan.views[view])) for view in group.view_of_crop]
    for index, picture in enumerate(pictures):
        _save(picture, out / f"{index:03}.png")
    _save(_sheet(pictures, protocol), out / SHEET_FILE)
    _save(_with_palette(overview(pixels.picture_of(decoded), protocol)), out / OVERVIEW_FILE)
    return out / SHEET_FILE


def overview(image: Image.Image, protocol: Protocol) -> Image.Image:
    """Draw the boxes of the smaller schemes and, below them, those of each square at each scale.

    If there is one square at one scale, all of them stand beside one another.

    Args:
        image: RGB, of any size.
        protocol: The protocol.
    """
    first, groups = list(_smaller_schemes(image, protocol)), list(_groups(image, protocol))
    if len(groups) == 1:
        first, groups = first + groups, []
    legend = _legend(protocol)
    rows = [first] * bool(first) + [groups[index : index + _COLUMNS] for index in range(0, len(groups), _COLUMNS)]
    # The groups' columns stand below one another; the first row has its own.
    columns = [max((panel.width for panel in panels), default=0) for panels in (first, groups)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = _GAP + max(len(first) * columns[0], min(_COLUMNS, len(groups)) * columns[1], legend.width + _GAP)
    sheet = Image.new("RGB", (width, sum(heights) + legend.height + 2 * _GAP), "white")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for index, panel in enumerate(row):
            sheet.paste(panel, (_GAP + index * columns[row is not first], top))
        top += height
    sheet.paste(legend, (_GAP, top))
    return sheet


def boxed(image: Image.Image, protocol: Protocol, group: Sequence[Crop], zoom: float = 1.0) -> Image.Image:
    """Draw the image resized to the scale of some crops, their boxes in it, and all but their square dimmed.

    Args:
        image: RGB, of any size.
        protocol: The protocol of the crops.
        group: Crops of one scale and one square.
        zoom: The scale of the drawing. At 1 it has the pixels of the resized image, and a margin around them.
    """
    canvas = protocol.canvas(group[0].scale)
    size, full = canvas.resized(*image.size), canvas.padded(*image.size)
    shown = Image.new("RGB", (round(full[0] * zoom), round(full[1] * zoom)), canvas.fill)
    start = tuple(round((outer - inner) // 2 * zoom) for outer, inner in zip(full, size, strict=True))
    shown.paste(
        image.resize((round(size[0] * zoom), round(size[1] * zoom)), Image.Resampling.BILINEAR),
        (start[0], start[1]),
    )
    dimmed = shown.point([round(_DIMMED * value) for value in range(256)] * 3)
    square = _zoomed(protocol.square_of(group[0], *image.size), zoom)
    dimmed.paste(shown.crop(square), square[:2])
    picture = ImageOps.expand(dimmed, MARGIN, "white")
    draw = ImageDraw.Draw(picture)
    # Mirrored crops have the same boxes, but for a pixel at the centre of a mirror image.
    plain = [crop for crop in group if not crop.mirrored]
    views = [(_place(crop.position, protocol.grid), protocol.view_of(crop, *image.size)) for crop in plain]
    for place, view in sorted(views, key=lambda each: _DRAWN.index(each[0]) if each[0] in _DRAWN else -1):
        # The corners' boxes cover the whole square's edges, so that is drawn around them.
        around = _LINE if place == "whole" else 0
        edges = view.left, view.top, view.left + view.side, view.top + view.side
        left, top, right, bottom = (MARGIN + edge for edge in _zoomed(edges, zoom))
        corners = (left - around, top - around, right - 1 + around, bottom - 1 + around)
        draw.rectangle(corners, outline=COLOURS.get(place, _CELL_COLOUR), width=_LINE if place in COLOURS else 1)
    return picture


def _place(position: str, grid: int) -> str:
    """Return the name of a position by which it is coloured; the corners of a grid are those of its square."""
    end, middle = grid - 1, (grid - 1) / 2
    places = {
        "0,0": "top-left",
        f"0,{end}": "top-right",
        f"{end},0": "bottom-left",
        f"{end},{end}": "bottom-right",
        f"{middle:g},{middle:g}": "centre",
        "centre-floor": "centre",
    }
    return places.get(position, position if position in COLOURS else _CELL)


def _smaller_schemes(image: Image.Image, protocol: Protocol) -> Iterator[Image.Image]:
    """Yield a panel for each smaller scheme whose crops are all in one square."""
    zoom = _zoom(image, protocol, 1.0)
    for scheme in protocol.schemes[:-1]:
        group = protocol.crops[:scheme]
        if len(set(map(_square, group))) > 1:
            continue
        width, height = protocol.canvas(group[0].scale).resized(*image.size)
        resized = f"the image resized to {width} by {height}, {_FITS[protocol.fit]} to {group[0].scale}"
        where = f"the {_where(image, protocol, group[0])}, {_range(protocol.square_of(group[0], *image.size))}"
        lines = (resized, where, _starts(image, protocol, group))
        yield _panel(_crops(scheme), boxed(image, protocol, group, zoom), lines)


def _groups(image: Image.Image, protocol: Protocol) -> Iterator[Image.Image]:
    """Yield a panel for each square at each scale."""
    squares = list(dict.fromkeys(map(_square, protocol.crops)))
    zoom = _zoom(image, protocol, 0.5 if len(squares) > 1 else 1.0)
    for square in squares[:_MOST_PANELS]:
        group = [crop for crop in protocol.crops if _square(crop) == square]
        numbers = [protocol.crops.index(crop) for crop in (group[0], group[-1])]
        yield _panel(
            f"{_crops(len(protocol.crops))}, {numbers[0]} to {numbers[1]}: scale {group[0].scale}, "
            f"{_where(image, protocol, group[0])}",
            boxed(image, protocol, group, zoom),
            (_range(protocol.square_of(group[0], *image.size)), _starts(image, protocol, group)),
        )


def _square(crop: Crop) -> tuple[int, str]:
    return crop.scale, crop.square


def _crops(count: int) -> str:
    return "1 crop" if count == 1 else f"{count} crops"


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


def _legend(protocol: Protocol) -> Image.Image:
    """The colours, and what the text cannot say at every picture."""
    size = protocol.size
    lines = [f"Crops are {size} by {size} pixels of the resized image."]
    if "whole" in protocol.positions:
        lines.append("The whole square is resized to that.")
    if protocol.mirror == "crop":
        lines.append("All schemes of more than one crop take each box as it is and mirrored.")
    elif protocol.mirror == "image":
        lines.append("The image is then mirrored, and the same crops are taken again.")
    if protocol.grid:
        lines.append(f"The positions are a grid of {protocol.grid} by {protocol.grid} in equal steps.")
    places = {_place(position, protocol.grid) for position in protocol.all_positions}
    colours = {**COLOURS, _CELL: _CELL_COLOUR}
    widths = {place: 18 + _width([place]) + _GAP for place in colours if place in places}
    height = _TEXT_HEIGHT * (len(lines) + 1) + 6
    legend = Image.new("RGB", (max(_width(lines), sum(widths.values())), height), "white")
    draw = ImageDraw.Draw(legend)
    left = 0
    for place, width in widths.items():
        draw.rectangle((left, 1, left + 12, 13), fill=colours[place], outline="black")
        draw.text((left + 18, 0), place, fill="black", font=ImageFont.load_default(_TEXT_SIZE))
        left += width
    _write(legend, _TEXT_HEIGHT + 6, lines)
    return legend


def _zoom(image: Image.Image, protocol: Protocol, zoom: float) -> float:
    longest = max(max(protocol.canvas(scale).padded(*image.size)) for scale in protocol.scales)
    return min(zoom, zoom * 2 * _LONGEST_SIDE / longest)


def _zoomed(box: Box, zoom: float) -> Box:
    """Left, top, right and bottom of a box in the drawing."""
    left, top, right, bottom = (round(edge * zoom) for edge in box)
    return left, top, right, bottom


def _range(box: Box) -> str:
    return f"x {box[0]} to {box[2]}, y {box[1]} to {box[3]}"


def _where(image: Image.Image, protocol: Protocol, crop: Crop) -> str:
    """The crop's square in words."""
    if protocol.fit == "squeeze":
        return "whole image, squeezed"
    first, last = ("left", "right") if image.width >= image.height else ("top", "bottom")
    words = {"centre": "central", "centre-floor": "central", "first": first, "last": last}
    return "whole image" if crop.square == "image" else f"{words[crop.square]} square"


def _starts(image: Image.Image, protocol: Protocol, group: Sequence[Crop]) -> str:
    """Where the boxes of crops begin that are not resized."""
    views = [protocol.view_of(crop, *image.size) for crop in group if crop.position != "whole"]
    lefts, tops = (sorted(set(starts)) for starts in ([v.left for v in views], [v.top for v in views]))
    return f"boxes begin at x {', '.join(map(str, lefts))} and y {', '.join(map(str, tops))}"


def _sheet(pictures: Sequence[Image.Image], protocol: Protocol) -> Image.Image:
    """Rows of one scale and square each: a heading with both, then the crops with number and position."""
    rows = list[list[int]]()
    for _, group in itertools.groupby(range(len(pictures)), lambda index: _square(protocol.crops[index])):
        indices = list(group)
        rows += (indices[first : first + _SHEET_COLUMNS] for first in range(0, len(indices), _SHEET_COLUMNS))
    cell_height = _THUMBNAIL + _LABEL_HEIGHT
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (_HEADING_WIDTH + columns * _THUMBNAIL, len(rows) * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            crop = protocol.crops[index]
            x, y = _HEADING_WIDTH + column * _THUMBNAIL, row * cell_height
            if column == 0:
                square = "whole image" if crop.square == "image" else f"{crop.square} square"
                draw.text((4, y + _LABEL_HEIGHT), f"scale {crop.scale}\n{square}", fill="black")
            mirrored = " mirror" if crop.mirrored else ""
            draw.text((x + 2, y + 1), f"{index} {crop.position}{mirrored}", fill="black")
            thumbnail = pictures[index].resize((_THUMBNAIL - 2, _THUMBNAIL - 2), Image.Resampling.BILINEAR)
            sheet.paste(thumbnail, (x, y + _LABEL_HEIGHT))
    return sheet


def _with_palette(picture: Image.Image) -> Image.Image:
    """Reduce the colours, except those of boxes and text, which must stay distinct."""
    kept = [*COLOURS.values(), _CELL_COLOUR, (0, 0, 0), (255, 255, 255)]
    reduced = picture.quantize(_OVERVIEW_COLOURS - len(kept))
    indices, colours = np.array(reduced), np.asarray(picture)
    palette = reduced.getpalette() or []
    for colour in kept:
        indices[(colours == colour).all(axis=2)] = len(palette) // 3
        palette += colour
    exact = Image.fromarray(indices)
    exact.putpalette(palette)
    return exact


def _save(picture: Image.Image, path: Path) -> None:
    # Pictures to look at can be made again, so they are not worth waiting for the disk.
    with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
        picture.save(file, format="PNG", optimize=picture.mode == "P")
