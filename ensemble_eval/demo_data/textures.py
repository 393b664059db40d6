"""Surface textures: what share of a palette's second colour covers each point of an object.

Only additions, products, square roots and rounding: unlike sines they give the same bits on every processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""(height, width) float32, or coordinates along one side."""


@dataclass(frozen=True)
class Grid:
    """Where a texture is wanted: the texture's own coordinates at every pixel."""

    u: Field
    """In periods of the texture."""
    v: Field
    turbulence: Field
    """Smooth noise in 0..1."""


Texture = Callable[[Grid], Field]
"""To the second colour's share in 0..1."""


def _signed_remainder(position: Field) -> Field:
    return position - np.rint(position)


def _zigzag_wave(position: Field) -> Field:
    """A triangular wave of period 1 between 0 (at the integers) and 1."""
    return 2.0 * abs(_signed_remainder(position))


def _edge(signed_distance: Field, sharpness: float) -> Field:
    return (0.5 + sharpness * signed_distance).clip(0.0, 1.0)


def _row_shift(v: Field) -> Field:
    """Half a period in every other row."""
    return 0.5 * (v // 1.0 % 2.0)


def _dots(at: Grid) -> Field:
    across = _signed_remainder(at.u + _row_shift(at.v))
    along = at.v % 1.0 - 0.5
    return _edge(0.1 - across * across - along * along, 14.0)


def _scales(at: Grid) -> Field:
    across = _signed_remainder(at.u + _row_shift(at.v))
    along = at.v % 1.0
    return (1.9 * (across * across + along * along) - 0.15).clip(0.0, 1.0)


def _bricks(at: Grid) -> Field:
    across = _signed_remainder(0.5 * at.u + _row_shift(at.v))
    along = at.v % 1.0 - 0.5
    to_mortar = np.minimum(1.0 - 2.0 * abs(across), 0.5 - abs(along))
    return _edge(0.12 - to_mortar, 10.0)


def _marble(at: Grid) -> Field:
    vein = _zigzag_wave(0.3 * (at.u + at.v) + 3.0 * at.turbulence)
    return 1.0 - vein * (2.0 - vein)


TEXTURES: dict[str, Texture] = {
    "stripes": lambda at: _edge(_zigzag_wave(at.u) - 0.5, 4.0),
    "zigzag": lambda at: _edge(_zigzag_wave(at.v + 0.7 * _zigzag_wave(0.8 * at.u)) - 0.5, 4.0),
    "dots": _dots,
    "scales": _scales,
    "checker": lambda at: _edge((_zigzag_wave(at.u) - 0.5) * (_zigzag_wave(at.v) - 0.5), 14.0),
    "bricks": _bricks,
    "ripples": lambda at: _edge(_zigzag_wave(np.sqrt(at.u * at.u + at.v * at.v)) - 0.5, 3.0),
    "marble": _marble,
}
