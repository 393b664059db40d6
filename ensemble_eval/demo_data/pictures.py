"""A labelled picture, drawn from (split, seed, index) alone: background, objects, occluders, camera."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ensemble_eval.demo_data import objects
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.objects import Layer, Stencil, Surface
from ensemble_eval.demo_data.scene import DIFFICULTY, Placement, Scene, plan_scene
from ensemble_eval.demo_data.shapes import Outline, Points, polar
from ensemble_eval.demo_data.textures import TEXTURES

Split = Literal["train", "val"]

SPLITS: tuple[Split, ...] = ("train", "val")

SEED_LIMIT = 2**32
"""Seeds and indices are single words of numpy's `SeedSequence`: larger ones could run into each other."""

_TEXTURE_NAMES = tuple(TEXTURES)
_BACKGROUND_SCALE = 2
"""Backgrounds are drawn this much smaller and enlarged: soft, as if out of focus, and quick."""

_BLUR_REFERENCE_WIDTH = 500

LABEL_STREAM, PIXEL_STREAM = 0, 1


@dataclass(frozen=True)
class Picture:
    """A picture (mode RGB or L) with its class, its compression, and the layers over its background in order."""

    image: Image.Image
    class_name: str
    jpeg_quality: int
    layers: tuple[Layer, ...] = field(compare=False, repr=False)


def generator_of(split: Split, seed: int, stream: int, number: int) -> Generator:
    """The random numbers of one stream: of the labels of a block of pictures, or of one picture's pixels."""
    words = (SPLITS.index(split), seed, stream, number)
    if not all(0 <= word < SEED_LIMIT for word in words):
        raise ValueError(f"seed {seed} and index {number} must lie between 0 and 2**32 - 1")
    return Generator(np.random.PCG64(np.random.SeedSequence(words)))


def label_of(split: Split, seed: int, index: int) -> int:
    """The label of a picture; in each run of as many pictures as there are classes, every class comes once."""
    block, position = divmod(index, len(CLASS_NAMES))
    return int(generator_of(split, seed, LABEL_STREAM, block).permutation(len(CLASS_NAMES))[position])


def draw_picture(split: Split, seed: int, index: int) -> Picture:
    """Draw picture `index` (0 <= index < 2**32) of a split: the same pixels whenever and wherever drawn."""
    label = label_of(split, seed, index)
    rng = generator_of(split, seed, PIXEL_STREAM, index)
    scene = plan_scene(label, rng)
    canvas, layers = _paint_scene(scene, rng)
    image = _photograph(canvas, scene.grey, rng)
    return Picture(image, CLASS_NAMES[label], scene.jpeg_quality, layers)


def _paint_scene(scene: Scene, rng: Generator) -> tuple[Image.Image, tuple[Layer, ...]]:
    layers = []
    canvas = _background(scene.size, rng)
    # The subject comes last, so that no distractor hides it.
    for placement in (*scene.distractors, scene.subject):
        stencil = objects.object_stencil(placement, scene.size, DIFFICULTY.outline_warp, rng)
        surface = objects.draw_surface(placement, rng)
        if stencil is not None:
            objects.paint(canvas, stencil, surface, rng)
            layers.append(Layer(stencil, placement.cues.name))
    if stencil is not None:
        occluders = draw_occluders(canvas, scene.subject, stencil, rng)
        layers += [Layer(occluder, None) for occluder in occluders]
    return canvas, tuple(layers)


def _background(size: tuple[int, int], rng: Generator) -> Image.Image:
    """An RGB image of `size` (width, height): clouds of colour, a faint texture, polygons and lines."""
    small = (-(-size[0] // _BACKGROUND_SCALE), -(-size[1] // _BACKGROUND_SCALE))
    canvas = Image.blend(_clouds(small, rng), _wallpaper(small, rng), rng.uniform(0.0, 0.6))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(*DIFFICULTY.clutter_polygons, endpoint=True)):
        draw.polygon(_scrap(small, rng), fill=objects.draw_any_colour(rng))
    for _ in range(rng.integers(*DIFFICULTY.clutter_lines, endpoint=True)):
        ends = (rng.random(4) * np.tile(small, 2)).tolist()
        draw.line(ends, fill=objects.draw_any_colour(rng), width=int(rng.integers(1, 5)))
    return canvas.resize(size, Image.Resampling.BILINEAR)


def draw_occluders(canvas: Image.Image, subject: Placement, stencil: Stencil, rng: Generator) -> list[Stencil]:
    """Paint bars and blobs over the subject, as long as they hide no more of it than the limit.

    Returns:
        The stencils of those that were painted.
    """
    painted = []
    uncovered = Image.new("L", canvas.size)
    uncovered.paste(stencil.mask, stencil.box)
    least_visible = (1.0 - DIFFICULTY.hidden_share_limit) * _total(uncovered)
    for _ in range(rng.integers(*DIFFICULTY.occluders, endpoint=True)):
        occluder = _occluder_stencil(subject, canvas.size, rng)
        surface = _any_surface(rng)
        if occluder is None:
            continue
        remaining = uncovered.copy()
        remaining.paste(0, occluder.box, occluder.mask)
        if _total(remaining) >= least_visible:
            objects.paint(canvas, occluder, surface, rng)
            painted.append(occluder)
            uncovered = remaining
    return painted


def _clouds(size: tuple[int, int], rng: Generator) -> Image.Image:
    cells = (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3)
    colours = np.array([objects.draw_any_colour(rng), objects.draw_any_colour(rng)], dtype=np.float64)
    share = rng.random(cells[:2])[..., None]
    mixed = colours[0] * share + colours[1] * (1.0 - share) + rng.normal(0.0, 18.0, cells)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _wallpaper(size: tuple[int, int], rng: Generator) -> Image.Image:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    periods = rng.uniform(3.0, 14.0) / max(size) * objects.rotation(angle).T
    texture = _TEXTURE_NAMES[rng.integers(len(_TEXTURE_NAMES))]
    share = objects.texture_field(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, periods, texture, rng)
    return objects.coloured(share, (objects.draw_any_colour(rng), objects.draw_any_colour(rng)))


def _scrap(size: tuple[int, int], rng: Generator) -> list[float]:
    corners = int(rng.integers(3, 7))
    angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners))
    radius = min(size) * rng.uniform(0.05, 0.3) * rng.uniform(0.6, 1.0, corners)
    return (polar(angle, radius) + rng.random(2) * size).ravel().tolist()


def _occluder_stencil(subject: Placement, size: tuple[int, int], rng: Generator) -> Stencil | None:
    width = subject.diameter * rng.uniform(*DIFFICULTY.occluder_width)
    around = rng.uniform(-0.4, 0.4, 2) * subject.diameter
    centre = (subject.centre[0] + around[0], subject.centre[1] + around[1])
    turn = objects.rotation(rng.uniform(0.0, np.pi))
    if rng.random() < 0.5:
        length = subject.diameter * rng.uniform(0.6, 1.6)
        return objects.outline_stencil(Outline((_BAR,)), 0.5 * turn * np.array([length, width]), centre, size)
    # A blob of a bar's width would hide next to nothing.
    return objects.outline_stencil(Outline((_blob(rng),)), turn * width, centre, size)


_BAR = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _blob(rng: Generator) -> Points:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    waves = np.arange(2, 6)
    heights = rng.uniform(-0.12, 0.12, 4)
    radius = 1.0 + (heights * np.sin(angle[:, None] * waves + rng.uniform(0.0, 2.0 * np.pi, 4))).sum(axis=1)
    return polar(angle, radius)


def _any_surface(rng: Generator) -> Surface:
    first, second = objects.draw_any_colour(rng), objects.draw_any_colour(rng)
    plain = rng.random() < 0.5
    texture = _TEXTURE_NAMES[rng.integers(len(_TEXTURE_NAMES))]
    return Surface(texture, rng.uniform(0.5, 2.0), (first, first if plain else second))


def _total(mask: Image.Image) -> int:
    return int(np.asarray(mask).sum(dtype=np.int64))


def _photograph(canvas: Image.Image, grey: bool, rng: Generator) -> Image.Image:
    """The painted RGB scene as taken: of the same size, mode RGB, or L where grey."""
    if grey:
        canvas = canvas.convert("L")
    lit = ImageChops.multiply(canvas, _light(canvas.size, rng).convert(canvas.mode))
    radius = rng.uniform(*DIFFICULTY.blur_radius) * max(lit.size) / _BLUR_REFERENCE_WIDTH
    if rng.random() < DIFFICULTY.blurred_share:
        lit = lit.filter(ImageFilter.GaussianBlur(radius))
    return _expose(lit, rng)


def _light(size: tuple[int, int], rng: Generator) -> Image.Image:
    fall = rng.uniform(*DIFFICULTY.light_fall)
    corners = rng.random((2, 2))
    corners = (corners - corners.min()) / (corners.max() - corners.min())
    levels = np.rint(255.0 * (1.0 - fall * corners)).astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR)


def _expose(image: Image.Image, rng: Generator) -> Image.Image:
    """Contrast and brightness, then noise: the same for all channels, as most of a sensor's is."""
    contrast = rng.uniform(*DIFFICULTY.contrast)
    shift = 128.0 * (1.0 - contrast) + rng.uniform(-1.0, 1.0) * DIFFICULTY.brightness_shift
    deviation = rng.uniform(*DIFFICULTY.noise_deviation)
    noise = rng.standard_normal((image.height, image.width), dtype=np.float32)
    noise *= np.float32(deviation)
    noise += np.float32(shift + 0.5)
    levels = np.asarray(image, dtype=np.float32) * np.float32(contrast)
    levels += noise[..., None] if levels.ndim == 3 else noise
    return Image.fromarray(levels.clip(0.0, 255.0).astype(np.uint8))
