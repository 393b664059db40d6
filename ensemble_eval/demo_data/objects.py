"""Painting of figures: an outline is bent, placed and filled with a texture in two colours."""

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ensemble_eval.demo_data.scene import DIFFICULTY, Placement
from ensemble_eval.demo_data.shapes import SHAPES, Outline
from ensemble_eval.demo_data.textures import TEXTURES, Field, Grid

RGB = tuple[int, int, int]
"""Red, green, blue in 0..255."""

Matrix = NDArray[np.floating[Any]]
"""(2, 2) float64."""

_SUPERSAMPLING = 3
_TURBULENCE_CELLS = 5


@dataclass(frozen=True)
class Palette:
    """Mean hues in degrees and the saturation range of a light and a dark colour."""

    light_hue: float
    dark_hue: float
    saturation: tuple[float, float]


PALETTES: dict[str, Palette] = {
    "ember": Palette(light_hue=45.0, dark_hue=8.0, saturation=(0.6, 0.95)),
    "sand": Palette(light_hue=42.0, dark_hue=28.0, saturation=(0.25, 0.55)),
    "moss": Palette(light_hue=72.0, dark_hue=110.0, saturation=(0.4, 0.8)),
    "mint": Palette(light_hue=150.0, dark_hue=175.0, saturation=(0.35, 0.8)),
    "ocean": Palette(light_hue=185.0, dark_hue=215.0, saturation=(0.5, 0.9)),
    "dusk": Palette(light_hue=225.0, dark_hue=255.0, saturation=(0.3, 0.7)),
    "plum": Palette(light_hue=310.0, dark_hue=280.0, saturation=(0.35, 0.75)),
    "berry": Palette(light_hue=350.0, dark_hue=335.0, saturation=(0.5, 0.9)),
}


@dataclass(frozen=True)
class Surface:
    """A texture by name, its scale in periods per radius, and the two colours it mixes."""

    texture: str
    periods: float
    colours: tuple[RGB, RGB]


@dataclass(frozen=True)
class Stencil:
    """The part of a placed outline that lies in the picture."""

    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels."""
    mask: Image.Image
    """Mode L, of the box's size: coverage in 0..255."""
    to_object: Matrix
    """From an offset in pixels to the object's own plane, where its radius is 1."""
    centre: tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """A painted figure and its class; None if it merely hides others."""

    stencil: Stencil
    class_name: str | None


def object_stencil(placement: Placement, size: tuple[int, int], warp: float, rng: Generator) -> Stencil | None:
    """The stencil of an object of a class, its outline bent; None where nothing of it is in the picture."""
    directions, phases = rng.uniform(-3.0, 3.0, (2, 2)), rng.uniform(0.0, 2.0 * np.pi, 2)
    amplitudes = rng.uniform(0.0, warp, 2)
    bent = SHAPES[placement.cues.shape].moved(lambda ring: ring + amplitudes * np.sin(ring @ directions + phases))
    # The longer of the two axes keeps the diameter, so that no stretch outgrows the planned size.
    axes = np.array([placement.stretch, 1.0]) / max(placement.stretch, 1.0)
    to_pixels = 0.5 * placement.diameter * rotation(placement.rotation) * axes
    return outline_stencil(bent, to_pixels, placement.centre, size)


def rotation(angle: float) -> Matrix:
    """The rotation by an angle in radians, clockwise in pictures."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def outline_stencil(
    outline: Outline, to_pixels: Matrix, centre: tuple[float, float], size: tuple[int, int]
) -> Stencil | None:
    """Place an outline, fill it at a multiple of the resolution and reduce: antialiased coverage."""
    placed = outline.moved(lambda ring: ring @ to_pixels.T + np.array(centre))
    points = np.concatenate(placed.solids)
    left, top = np.maximum(np.floor(points.min(axis=0)), 0.0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(points.max(axis=0)), size).astype(int).tolist()
    if left >= right or top >= bottom:
        return None
    fine = Image.new("L", (_SUPERSAMPLING * (right - left), _SUPERSAMPLING * (bottom - top)))
    draw = ImageDraw.Draw(fine)
    for rings, coverage in ((placed.solids, 255), (placed.holes, 0)):
        for ring in rings:
            draw.polygon((_SUPERSAMPLING * (ring - np.array([left, top]))).ravel().tolist(), fill=coverage)
    box = (left, top, right, bottom)
    return Stencil(box, fine.reduce(_SUPERSAMPLING), np.linalg.inv(to_pixels), centre)


def paint(canvas: Image.Image, stencil: Stencil, surface: Surface, rng: Generator) -> None:
    """Fill the stencil's part of an RGB canvas with the surface."""
    left, top, right, bottom = stencil.box
    x = np.arange(left, right) + 0.5 - stencil.centre[0]
    y = np.arange(top, bottom) + 0.5 - stencil.centre[1]
    share = texture_field(x, y, surface.periods * stencil.to_object, surface.texture, rng)
    canvas.paste(coloured(share, surface.colours), (left, top), stencil.mask)


def draw_surface(placement: Placement, rng: Generator) -> Surface:
    """A surface typical of the object's class."""
    first, second = draw_two_colours(PALETTES[placement.cues.palette], DIFFICULTY.hue_deviation_degrees, rng)
    if rng.random() < 0.5:
        first, second = second, first
    contrast = rng.uniform(*DIFFICULTY.texture_contrast)
    periods = rng.uniform(*DIFFICULTY.texture_periods)
    return Surface(placement.cues.texture, periods, (first, _mixed(first, second, contrast)))


def rgb(hue_degrees: float, saturation: float, value: float) -> RGB:
    """The colour of a hue in degrees, a saturation and a value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue_degrees % 360.0 / 360.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_two_colours(palette: Palette, hue_deviation_degrees: float, rng: Generator) -> tuple[RGB, RGB]:
    """A light and a dark colour of the palette, their hues jittered together and each on its own."""
    together, *apart = rng.normal(0.0, hue_deviation_degrees * np.sqrt(0.5), 3)
    saturation = rng.uniform(*palette.saturation, 2)
    light_value, dark_value = rng.uniform(0.75, 1.0), rng.uniform(0.25, 0.55)
    light = rgb(palette.light_hue + together + apart[0], saturation[0], light_value)
    dark = rgb(palette.dark_hue + together + apart[1], saturation[1], dark_value)
    return light, dark


def draw_any_colour(rng: Generator) -> RGB:
    """A colour of the surroundings: any hue, rarely vivid."""
    return rgb(rng.uniform(0.0, 360.0), rng.beta(1.5, 2.5), rng.uniform(0.15, 1.0))


def texture_field(x: Field, y: Field, to_periods: Matrix, texture: str, rng: Generator) -> Field:
    """A (len(y), len(x)) field of the texture in 0..1 over the grid of pixel offsets x and y."""
    phase = rng.uniform(-0.5, 0.5, 2)
    u, v = (
        ((row[0] * x)[None, :] + (row[1] * y + shift)[:, None]).astype(np.float32)
        for row, shift in zip(to_periods, phase, strict=True)
    )
    cells = rng.random((_TURBULENCE_CELLS, _TURBULENCE_CELLS), dtype=np.float32)
    smooth = Image.fromarray(cells).resize((len(x), len(y)), Image.Resampling.BICUBIC)
    return TEXTURES[texture](Grid(u, v, np.asarray(smooth)))


def coloured(share: Field, colours: tuple[RGB, RGB]) -> Image.Image:
    """An RGB image that mixes two colours, `share` (0..1) of the second at each pixel."""
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.rint(np.array(colours[0]) * (1.0 - levels) + np.array(colours[1]) * levels).astype(np.uint8)
    image = Image.fromarray((share * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))
    image.putpalette(table.tobytes())
    return image.convert("RGB")


def _mixed(first: RGB, second: RGB, share: float) -> RGB:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue
