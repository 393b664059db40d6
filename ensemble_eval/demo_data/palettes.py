"""Palettes: distributions of two colours, whose hues overlap with their neighbours'."""

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]
"""Red, green, blue in 0..255."""


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


def rgb(hue_degrees: float, saturation: float, value: float) -> RGB:
    """The colour of a hue in degrees, a saturation and a value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue_degrees % 360.0 / 360.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_two_colours(palette: Palette, hue_deviation_degrees: float, rng: np.random.Generator) -> tuple[RGB, RGB]:
    """A light and a dark colour of the palette, their hues jittered together and each on its own."""
    together, *apart = rng.normal(0.0, hue_deviation_degrees * np.sqrt(0.5), 3)
    saturation = rng.uniform(*palette.saturation, 2)
    light_value, dark_value = rng.uniform(0.75, 1.0), rng.uniform(0.25, 0.55)
    light = rgb(palette.light_hue + together + apart[0], saturation[0], light_value)
    dark = rgb(palette.dark_hue + together + apart[1], saturation[1], dark_value)
    return light, dark


def draw_any_colour(rng: np.random.Generator) -> RGB:
    """A colour of the surroundings: any hue, rarely vivid."""
    return rgb(rng.uniform(0.0, 360.0), rng.beta(1.5, 2.5), rng.uniform(0.15, 1.0))
