"""The class table: 64 triples of shape, texture and palette.

Every row gives one shape two textures and two palettes, and two shapes share each such pair of pairs.
So any two of the three cues leave exactly two candidates, and only all three together name the class.
"""

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class ClassCues:
    """What makes an object one of its class; names are keys of `SHAPES`, `TEXTURES` and `PALETTES`."""

    shape: str
    texture: str
    palette: str

    @property
    def name(self) -> str:
        """The class's folder name."""
        return f"{self.shape}-{self.texture}-{self.palette}"


@dataclass(frozen=True)
class _ShapeRow:
    shape: str
    textures: tuple[str, str]
    palettes: tuple[str, str]


_ROWS = (
    _ShapeRow("arrow", ("stripes", "zigzag"), ("ember", "ocean")),
    _ShapeRow("bolt", ("stripes", "zigzag"), ("ember", "ocean")),
    _ShapeRow("cross", ("stripes", "zigzag"), ("moss", "plum")),
    _ShapeRow("star", ("stripes", "zigzag"), ("moss", "plum")),
    _ShapeRow("bottle", ("dots", "scales"), ("moss", "plum")),
    _ShapeRow("key", ("dots", "scales"), ("moss", "plum")),
    _ShapeRow("fish", ("dots", "scales"), ("sand", "dusk")),
    _ShapeRow("leaf", ("dots", "scales"), ("sand", "dusk")),
    _ShapeRow("gear", ("checker", "bricks"), ("sand", "dusk")),
    _ShapeRow("ring", ("checker", "bricks"), ("sand", "dusk")),
    _ShapeRow("house", ("checker", "bricks"), ("berry", "mint")),
    _ShapeRow("mushroom", ("checker", "bricks"), ("berry", "mint")),
    _ShapeRow("butterfly", ("ripples", "marble"), ("berry", "mint")),
    _ShapeRow("heart", ("ripples", "marble"), ("berry", "mint")),
    _ShapeRow("crescent", ("ripples", "marble"), ("ember", "ocean")),
    _ShapeRow("spiral", ("ripples", "marble"), ("ember", "ocean")),
)


def _class_cues() -> tuple[ClassCues, ...]:
    cues = [
        ClassCues(row.shape, texture, palette)
        for row in _ROWS
        for texture, palette in product(row.textures, row.palettes)
    ]
    return tuple(sorted(cues, key=lambda c: c.name))


CLASSES: tuple[ClassCues, ...] = _class_cues()
"""Cues by label."""

CLASS_NAMES: tuple[str, ...] = tuple(cues.name for cues in CLASSES)
"""Folder names by label; sorted, so that a class-folder reader finds the same labels."""
