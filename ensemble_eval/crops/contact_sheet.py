"""The 144 crops of one image as files and as one labelled picture, to see what an evaluation sees."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ensemble_eval.crops import pixels, schemes
from ensemble_eval.crops.overview import overview
from ensemble_eval.errors import InputError, UnreadableImageError, first_line
from ensemble_eval.files import atomic_path, read_regular

SHEET_FILE = "sheet.png"
OVERVIEW_FILE = "overview.png"
# Of the overview's palette: enough for a photograph behind boxes, and a file that a page may show.
_OVERVIEW_COLOURS = 128
_THUMBNAIL = 112
_LABEL_HEIGHT = 14
_HEADING_WIDTH = 92
_COLUMNS = 12


def write_crops(image: Path, out: Path) -> Path:
    """Write `000.png … 143.png` in the crop order, a contact sheet of 12 rows of 12, and an overview of the boxes.

    Returns the sheet's path.

    Raises:
        InputError: the image cannot be read, or `out` cannot be written.
    """
    try:
        decoded = pixels.decode(read_regular(image))
        _, height, width = decoded.shape
        source = pixels.prepare(decoded, schemes.plan(width, height, len(schemes.CROPS)))
    except UnreadableImageError as error:
        raise InputError(f"{image} is not usable: {error}") from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{image} cannot be read ({reason}); check the path") from error
    pictures = [_picture(source.cut(view)) for view in schemes.views_of(width, height)]
    for index, picture in enumerate(pictures):
        _save(picture, out / f"{index:03}.png")
    _save(_sheet(pictures), out / SHEET_FILE)
    _save(overview(_picture(decoded)).quantize(_OVERVIEW_COLOURS), out / OVERVIEW_FILE)
    return out / SHEET_FILE


def _picture(image: Tensor) -> Image.Image:
    """Of uint8 [3, H, W]."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    """One row per group of twelve: a heading with scale and square, then the crops with number and position."""
    rows = len(pictures) // _COLUMNS
    cell_height = _THUMBNAIL + _LABEL_HEIGHT
    sheet = Image.new("RGB", (_HEADING_WIDTH + _COLUMNS * _THUMBNAIL, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, crop) in enumerate(zip(pictures, schemes.CROPS, strict=True)):
        row, column = divmod(index, _COLUMNS)
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
