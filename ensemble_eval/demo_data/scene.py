"""The plan of a picture in numbers, before anything is painted, and how hard it is to recognise."""

import math
from dataclasses import dataclass

import numpy as np

from ensemble_eval.demo_data.classes import CLASSES, ClassCues

SIZE_SHARES: dict[tuple[int, int], float] = {
    (500, 375): 0.48,
    (500, 333): 0.14,
    (375, 500): 0.11,
    (333, 500): 0.06,
    (500, 500): 0.05,
    (500, 400): 0.04,
    (400, 300): 0.03,
    (500, 281): 0.02,
    (640, 480): 0.02,
    (240, 180): 0.015,
    (180, 240): 0.01,
    (200, 200): 0.01,
    (800, 600): 0.01,
    (612, 816): 0.005,
}
"""(width, height) in pixels, with the share of pictures; a likeness of ImageNet's validation set."""


@dataclass(frozen=True)
class Difficulty:
    """How hard the pictures are. Ranges are (lowest, highest); a draw is uniform unless said otherwise.

    A diameter is that of the circle around an object's outline. Colours and grey values are in 0..255.
    """

    subject_diameter: tuple[float, float, float] = (0.40, 0.70, 0.95)
    """Lowest, most frequent and highest share of the shorter side (triangular distribution)."""
    border_margin: float = 0.25
    """How near the subject's centre comes to a border, in its diameters; below 0.5 the border cuts it."""
    distractors: tuple[int, int] = (0, 3)
    distractor_diameter: tuple[float, float] = (0.15, 0.35)
    """Share of the subject's diameter; the highest must stay well below 1, or the label is ambiguous."""
    clutter_polygons: tuple[int, int] = (2, 7)
    clutter_lines: tuple[int, int] = (0, 4)
    occluders: tuple[int, int] = (0, 1)
    occluder_width: tuple[float, float] = (0.06, 0.22)
    """Share of the subject's diameter."""
    hidden_share_limit: float = 0.35
    """An occluder that would hide more of the subject than this, together with those before, is left out."""
    aspect_limit: float = 1.3
    """Objects are stretched by a factor between this and its inverse."""
    outline_warp: float = 0.07
    """Amplitude of the wave that bends outlines, in radii."""
    hue_deviation_degrees: float = 10.0
    """Standard deviation of a palette's hues around its own."""
    texture_periods: tuple[float, float] = (2.2, 3.8)
    """Periods of the texture per radius of the object."""
    texture_contrast: tuple[float, float] = (0.45, 1.0)
    """Share of the palette's contrast between its two colours that the texture uses."""
    light_fall: tuple[float, float] = (0.0, 0.6)
    """Share of the light lost between the brightest and the darkest corner."""
    contrast: tuple[float, float] = (0.6, 1.15)
    brightness_shift: float = 25.0
    blurred_share: float = 0.4
    """Share of pictures out of focus."""
    blur_radius: tuple[float, float] = (0.4, 1.6)
    """Standard deviation in pixels of a picture 500 pixels wide."""
    noise_deviation: tuple[float, float] = (0.0, 8.0)
    jpeg_quality: tuple[int, int] = (40, 95)
    grey_share: float = 0.02


DIFFICULTY = Difficulty()


@dataclass(frozen=True)
class Placement:
    """One object: its class and, in pixels and radians, where and how large it lies in the picture."""

    cues: ClassCues
    centre: tuple[float, float]
    diameter: float
    rotation: float
    stretch: float
    """Width over height of the unrotated object, relative to its outline's own."""


@dataclass(frozen=True)
class Scene:
    """The labelled subject, smaller distractors of other classes, and the picture's format."""

    size: tuple[int, int]
    """Width and height in pixels."""
    subject: Placement
    distractors: tuple[Placement, ...]
    grey: bool
    jpeg_quality: int


def plan_scene(label: int, rng: np.random.Generator) -> Scene:
    """Draw the places of all objects; the subject has the class `label`, and distractors have others."""
    sizes = tuple(SIZE_SHARES)
    size = sizes[rng.choice(len(sizes), p=np.fromiter(SIZE_SHARES.values(), np.float64))]
    subject = _place(CLASSES[label], min(size) * rng.triangular(*DIFFICULTY.subject_diameter), size, rng)
    distractors = []
    for _ in range(rng.integers(*DIFFICULTY.distractors, endpoint=True)):
        cues = CLASSES[(label + rng.integers(1, len(CLASSES))) % len(CLASSES)]
        diameter = subject.diameter * rng.uniform(*DIFFICULTY.distractor_diameter)
        distractors.append(_place(cues, diameter, size, rng))
    grey = bool(rng.random() < DIFFICULTY.grey_share)
    jpeg_quality = int(rng.integers(*DIFFICULTY.jpeg_quality, endpoint=True))
    return Scene(size, subject, tuple(distractors), grey, jpeg_quality)


def _place(cues: ClassCues, diameter: float, size: tuple[int, int], rng: np.random.Generator) -> Placement:
    margin = DIFFICULTY.border_margin * diameter
    log_limit = math.log(DIFFICULTY.aspect_limit)
    centre = (rng.uniform(margin, size[0] - margin), rng.uniform(margin, size[1] - margin))
    rotation = rng.uniform(0.0, 2.0 * math.pi)
    return Placement(cues, centre, diameter, rotation, stretch=math.exp(rng.uniform(-log_limit, log_limit)))
