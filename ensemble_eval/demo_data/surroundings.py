"""What lies behind the subject and in front of it."""

import numpy as np
from PIL import Image, ImageDraw

from ensemble_eval.demo_data.difficulty import Difficulty
from ensemble_eval.demo_data.objects import Stencil, Surface, coloured, outline_stencil, paint, texture_field
from ensemble_eval.demo_data.palettes import draw_any_colour
from ensemble_eval.demo_data.scene import Placement
from ensemble_eval.demo_data.shapes import Outline, Points
from ensemble_eval.demo_data.textures import TEXTURES

_TEXTURE_NAMES = tuple(TEXTURES)
_BACKGROUND_SCALE = 2
"""Backgrounds are drawn this much smaller and enlarged: soft, as if out of focus, and quick."""


def draw_background(size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator) -> Image.Image:
    """An RGB image of `size` (width, height): clouds of colour, a faint texture, polygons and lines."""
    small = (-(-size[0] // _BACKGROUND_SCALE), -(-size[1] // _BACKGROUND_SCALE))
    canvas = _clouds(small, rng)
    canvas = Image.blend(canvas, _wallpaper(small, rng), rng.uniform(0.0, 0.6))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(*difficulty.clutter_polygons, endpoint=True)):
        draw.polygon(_scrap(small, rng), fill=draw_any_colour(rng))
    for _ in range(rng.integers(*difficulty.clutter_lines, endpoint=True)):
        ends = (rng.random(4) * np.tile(small, 2)).tolist()
        draw.line(ends, fill=draw_any_colour(rng), width=int(rng.integers(1, 5)))
    return canvas.resize(size, Image.Resampling.BILINEAR)


def draw_occluders(
    canvas: Image.Image,
    subject: Placement,
    stencil: Stencil,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> list[Stencil]:
    """Paint bars and blobs over the subject, none that would hide more of it than the limit.

    Returns:
        Where they were painted.
    """
    painted = []
    uncovered = Image.new("L", canvas.size)
    uncovered.paste(stencil.mask, stencil.box)
    least_visible = (1.0 - difficulty.hidden_share_limit) * _total(uncovered)
    for _ in range(rng.integers(*difficulty.occluders, endpoint=True)):
        occluder = _occluder_stencil(subject, canvas.size, difficulty, rng)
        surface = _any_surface(rng)
        if occluder is None:
            continue
        remaining = uncovered.copy()
        remaining.paste(0, occluder.box, occluder.mask)
        if _total(remaining) >= least_visible:
            paint(canvas, occluder, surface, rng)
            painted.append(occluder)
            uncovered = remaining
    return painted


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    cells = (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3)
    colours = np.array([draw_any_colour(rng), draw_any_colour(rng)], dtype=np.float64)
    share = rng.random(cells[:2])[..., None]
    mixed = colours[0] * share + colours[1] * (1.0 - share) + rng.normal(0.0, 18.0, cells)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _wallpaper(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    periods = rng.uniform(3.0, 14.0) / max(size) * np.array([[cos, sin], [-sin, cos]])
    texture = _TEXTURE_NAMES[rng.integers(len(_TEXTURE_NAMES))]
    share = texture_field(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, periods, texture, rng)
    return coloured(share, (draw_any_colour(rng), draw_any_colour(rng)))


def _scrap(size: tuple[int, int], rng: np.random.Generator) -> list[float]:
    corners = int(rng.integers(3, 7))
    angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners))
    radius = min(size) * rng.uniform(0.05, 0.3) * rng.uniform(0.6, 1.0, corners)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    coordinates: list[float] = (ring + rng.random(2) * size).ravel().tolist()
    return coordinates


def _occluder_stencil(
    subject: Placement, size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator
) -> Stencil | None:
    width = subject.diameter * rng.uniform(*difficulty.occluder_width)
    around = rng.uniform(-0.4, 0.4, 2) * subject.diameter
    centre = (subject.centre[0] + around[0], subject.centre[1] + around[1])
    angle = rng.uniform(0.0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        length = subject.diameter * rng.uniform(0.6, 1.6)
        return outline_stencil(Outline((_BAR,)), 0.5 * turn * np.array([length, width]), centre, size)
    # A blob of a bar's width would hide next to nothing.
    return outline_stencil(Outline((_blob(rng),)), turn * width, centre, size)


_BAR = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _blob(rng: np.random.Generator) -> Points:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    waves = np.arange(2, 6)
    heights = rng.uniform(-0.12, 0.12, 4)
    radius = 1.0 + (heights * np.sin(angle[:, None] * waves + rng.uniform(0.0, 2.0 * np.pi, 4))).sum(axis=1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _any_surface(rng: np.random.Generator) -> Surface:
    first, second = draw_any_colour(rng), draw_any_colour(rng)
    plain = rng.random() < 0.5
    texture = _TEXTURE_NAMES[rng.integers(len(_TEXTURE_NAMES))]
    return Surface(texture, rng.uniform(0.5, 2.0), (first, first if plain else second))


def _total(mask: Image.Image) -> int:
    return int(np.asarray(mask).sum(dtype=np.int64))
