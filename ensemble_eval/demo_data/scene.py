"""What a picture shows, planned in numbers before anything is painted."""

import math
from dataclasses import dataclass

import numpy as np

from ensemble_eval.demo_data.classes import CLASSES, ClassCues
from ensemble_eval.demo_data.difficulty import Difficulty

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

    @property
    def shorter_side(self) -> int:
        """In pixels."""
        return min(self.size)


def plan_scene(label: int, difficulty: Difficulty, rng: np.random.Generator) -> Scene:
    """Draw where everything lies; the subject is of class `label`, every distractor of another."""
    sizes = tuple(SIZE_SHARES)
    size = sizes[rng.choice(len(sizes), p=np.fromiter(SIZE_SHARES.values(), np.float64))]
    subject = _plan_subject(CLASSES[label], size, difficulty, rng)
    count = rng.integers(*difficulty.distractors, endpoint=True)
    return Scene(
        size=size,
        subject=subject,
        distractors=tuple(_plan_distractor(label, subject, size, difficulty, rng) for _ in range(count)),
        grey=bool(rng.random() < difficulty.grey_share),
        jpeg_quality=int(rng.integers(*difficulty.jpeg_quality, endpoint=True)),
    )


def _plan_subject(
    cues: ClassCues, size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator
) -> Placement:
    diameter = min(size) * rng.triangular(*difficulty.subject_diameter)
    return _place(cues, diameter, size, difficulty, rng)


def _plan_distractor(
    label: int, subject: Placement, size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator
) -> Placement:
    other_label = (label + rng.integers(1, len(CLASSES))) % len(CLASSES)
    diameter = subject.diameter * rng.uniform(*difficulty.distractor_diameter)
    return _place(CLASSES[other_label], diameter, size, difficulty, rng)


def _place(
    cues: ClassCues, diameter: float, size: tuple[int, int], difficulty: Difficulty, rng: np.random.Generator
) -> Placement:
    margin = difficulty.border_margin * diameter
    log_limit = math.log(difficulty.aspect_limit)
    return Placement(
        cues=cues,
        centre=(rng.uniform(margin, size[0] - margin), rng.uniform(margin, size[1] - margin)),
        diameter=diameter,
        rotation=rng.uniform(0.0, 2.0 * math.pi),
        stretch=math.exp(rng.uniform(-log_limit, log_limit)),
    )
