"""One labelled picture from (split, seed, index), and nothing else."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from ensemble_eval.demo_data.boxes import Layer
from ensemble_eval.demo_data.camera import photograph
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.difficulty import Difficulty
from ensemble_eval.demo_data.objects import draw_surface, object_stencil, paint
from ensemble_eval.demo_data.scene import Scene, plan_scene
from ensemble_eval.demo_data.surroundings import draw_background, draw_occluders

Split = Literal["train", "val"]

SPLITS: tuple[Split, ...] = ("train", "val")

DEFAULT_DIFFICULTY = Difficulty()

SEED_LIMIT = 2**32
"""Seeds and indices are single words of numpy's `SeedSequence`: larger ones could run into each other."""

_LABEL_STREAM, _PIXEL_STREAM = 0, 1


@dataclass(frozen=True)
class Picture:
    """A picture (mode RGB or L) with its label, an index into `CLASS_NAMES`, and how to compress it.

    `layers` is what was painted over the background, in this order.
    """

    image: Image.Image
    label: int
    class_name: str
    jpeg_quality: int
    layers: tuple[Layer, ...] = field(compare=False, repr=False)


def label_of(split: Split, seed: int, index: int) -> int:
    """The label of a picture: each run of as many pictures as there are classes shows every class once."""
    block, position = divmod(index, len(CLASS_NAMES))
    return int(_generator(split, seed, _LABEL_STREAM, block).permutation(len(CLASS_NAMES))[position])


def scene_of(split: Split, seed: int, index: int, difficulty: Difficulty = DEFAULT_DIFFICULTY) -> Scene:
    """What `draw_picture` paints."""
    return plan_scene(label_of(split, seed, index), difficulty, _generator(split, seed, _PIXEL_STREAM, index))


def draw_picture(split: Split, seed: int, index: int, difficulty: Difficulty = DEFAULT_DIFFICULTY) -> Picture:
    """Draw picture `index` (0 <= index < 2**32) of a split: the same pixels whenever and wherever drawn."""
    label = label_of(split, seed, index)
    rng = _generator(split, seed, _PIXEL_STREAM, index)
    scene = plan_scene(label, difficulty, rng)
    canvas, layers = _paint_scene(scene, difficulty, rng)
    image = photograph(canvas, scene.grey, difficulty, rng)
    return Picture(image, label, CLASS_NAMES[label], scene.jpeg_quality, layers)


def _paint_scene(
    scene: Scene, difficulty: Difficulty, rng: np.random.Generator
) -> tuple[Image.Image, tuple[Layer, ...]]:
    layers = []
    canvas = draw_background(scene.size, difficulty, rng)
    # The subject comes last, so that no distractor hides it.
    for placement in (*scene.distractors, scene.subject):
        stencil = object_stencil(placement, scene.size, difficulty.outline_warp, rng)
        surface = draw_surface(placement, difficulty, rng)
        if stencil is not None:
            paint(canvas, stencil, surface, rng)
            layers.append(Layer(stencil, placement.cues.name))
    if stencil is not None:
        occluders = draw_occluders(canvas, scene.subject, stencil, difficulty, rng)
        layers += [Layer(occluder, None) for occluder in occluders]
    return canvas, tuple(layers)


def _generator(split: Split, seed: int, stream: int, number: int) -> np.random.Generator:
    words = (SPLITS.index(split), seed, stream, number)
    if not all(0 <= word < SEED_LIMIT for word in words):
        raise ValueError(f"seed {seed} and index {number} must lie between 0 and 2**32 - 1")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
