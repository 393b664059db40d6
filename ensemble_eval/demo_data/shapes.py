"""Outlines of the sixteen shapes: points on a plane, scaled to the unit circle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating[Any]]
"""(n, 2) float64: x and y, y pointing down, as in pictures."""

_POINT_SPACING = 0.08
"""Edges are divided this finely, so that a warp bends straight ones too."""


@dataclass(frozen=True)
class Outline:
    """A filled figure: the union of `solids` less the union of `holes`, each a closed polygon."""

    solids: tuple[Points, ...]
    holes: tuple[Points, ...] = ()

    def moved(self, move: Callable[[Points], Points]) -> "Outline":
        """The figure with each polygon moved, stretched or bent."""
        return Outline(tuple(map(move, self.solids)), tuple(map(move, self.holes)))


def _figure(*solids: Points, hole: Points | None = None) -> Outline:
    return Outline(solids, () if hole is None else (hole,))


def _points(*xy: tuple[float, float]) -> Points:
    return np.array(xy, dtype=np.float64)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return _points((left, top), (right, top), (right, bottom), (left, bottom))


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], tilt_degrees: float = 0.0) -> Points:
    angle = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    tilt = np.deg2rad(tilt_degrees)
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack([centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y], axis=1)


def _circle(radius: float, centre: tuple[float, float] = (0.0, 0.0)) -> Points:
    return _ellipse(centre, (radius, radius))


def _mirrored(right_half: Points) -> Points:
    """The right half from top to bottom, closed by its mirror image."""
    return np.concatenate([right_half, right_half[::-1] * np.array([-1.0, 1.0])])


def polar(angle: NDArray[np.floating[Any]], radius: NDArray[np.floating[Any]]) -> Points:
    """Points at angles in radians and distances from the origin."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _gear() -> Outline:
    teeth = 9
    step = 2.0 * np.pi / (4 * teeth)
    angle = step * (np.arange(4 * teeth) + np.tile([0.15, -0.15, 0.0, 0.0], teeth))
    radius = np.tile([1.0, 1.0, 0.74, 0.74], teeth)
    return _figure(polar(angle, radius), hole=_circle(0.34))


def _heart() -> Outline:
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    x = 16.0 * np.sin(angle) ** 3
    y = -13.0 * np.cos(angle) + 5.0 * np.cos(2 * angle) + 2.0 * np.cos(3 * angle) + np.cos(4 * angle)
    return _figure(np.stack([x, y], axis=1))


def _leaf() -> Outline:
    height = np.linspace(-1.0, 0.7, 24)
    width = 0.55 * np.sqrt(1.0 - ((height + 0.15) / 0.85) ** 2) * (1.0 + 0.35 * height)
    stem = _points((-0.06, 0.6), (0.06, 0.6), (0.1, 1.1), (-0.02, 1.1))
    return _figure(_mirrored(np.stack([width, height], axis=1)), stem)


def _mushroom() -> Outline:
    angle = np.linspace(-np.pi / 2, 0.0, 16)
    dome = np.stack([np.cos(angle), 0.1 + 0.95 * np.sin(angle)], axis=1)
    profile = np.concatenate([dome, _points((0.95, 0.22), (0.26, 0.22), (0.34, 1))])
    return _figure(_mirrored(profile))


def _spiral() -> Outline:
    angle = np.linspace(0.0, 3.6 * np.pi, 90)
    middle = 0.12 + 0.75 * angle / angle[-1]
    half_width = 0.13
    outer, inner = polar(angle, middle + half_width), polar(angle, middle - half_width * 0.95)
    return _figure(np.concatenate([outer, inner[::-1]]))


def _wings(x: float, y: float, radii: tuple[float, float], tilt_degrees: float) -> tuple[Points, Points]:
    return _ellipse((-x, y), radii, -tilt_degrees), _ellipse((x, y), radii, tilt_degrees)


_DRAWN = {
    "arrow": _figure(_mirrored(_points((0, -1), (0.75, -0.15), (0.28, -0.15), (0.28, 1)))),
    "bolt": _figure(
        _points((-0.05, -1), (-0.75, 0.22), (-0.15, 0.22), (-0.45, 1), (0.75, -0.3), (0.2, -0.3), (0.6, -1))
    ),
    "bottle": _figure(
        _mirrored(_points((0.17, -1), (0.17, -0.45), (0.42, -0.12), (0.46, 0.1), (0.46, 0.9), (0.38, 1)))
    ),
    "butterfly": _figure(
        *_wings(0.5, -0.35, (0.58, 0.38), -35.0),
        *_wings(0.42, 0.42, (0.42, 0.3), 40.0),
        _ellipse((0, 0), (0.1, 0.7)),
    ),
    "crescent": _figure(_circle(1.0), hole=_circle(0.85, (0.5, 0.0))),
    "cross": _figure(_mirrored(_points((0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3), (0.3, 1)))),
    "fish": _figure(
        _ellipse((-0.2, 0), (0.8, 0.46)),
        _points((0.45, 0), (1, -0.5), (0.85, 0), (1, 0.5)),
        _points((-0.25, -0.35), (0.3, -0.68), (0.35, -0.25)),
        hole=_circle(0.09, (-0.65, -0.1)),
    ),
    "gear": _gear(),
    "heart": _heart(),
    "house": _figure(
        _points((0, -1), (1, -0.15), (0.72, -0.15), (0.72, 0.9), (-0.72, 0.9), (-0.72, -0.15), (-1, -0.15)),
        _rectangle(0.4, -0.95, 0.66, -0.2),
        hole=_points((-0.18, 0.9), (-0.18, 0.3), (0.18, 0.3), (0.18, 0.9)),
    ),
    "key": _figure(
        _circle(0.45, (0, -0.6)),
        _rectangle(-0.17, -0.3, 0.17, 1),
        _rectangle(0.1, 0.35, 0.48, 0.56),
        _rectangle(0.1, 0.76, 0.42, 1),
        hole=_circle(0.2, (0, -0.6)),
    ),
    "leaf": _leaf(),
    "mushroom": _mushroom(),
    "ring": _figure(_circle(1.0), hole=_circle(0.5)),
    "spiral": _spiral(),
    "star": _figure(polar(np.arange(10) * np.pi / 5.0 - np.pi / 2.0, np.tile([1.0, 0.45], 5))),
}


def _densified(ring: Points) -> Points:
    following = np.roll(ring, -1, axis=0)
    counts = np.ceil(np.linalg.norm(following - ring, axis=1) / _POINT_SPACING).astype(int).clip(1)
    return np.concatenate(
        [
            start + (end - start) * np.linspace(0.0, 1.0, count, endpoint=False)[:, None]
            for start, end, count in zip(ring, following, counts, strict=True)
        ]
    )


def _in_unit_circle(outline: Outline) -> Outline:
    extent = np.concatenate(outline.solids)
    centre = (extent.min(axis=0) + extent.max(axis=0)) / 2.0
    radius = np.linalg.norm(extent - centre, axis=1).max()
    return outline.moved(lambda ring: _densified((ring - centre) / radius))


SHAPES: dict[str, Outline] = {name: _in_unit_circle(outline) for name, outline in _DRAWN.items()}
"""Outlines by name, centred on their extent; the farthest point of each lies on the unit circle."""
