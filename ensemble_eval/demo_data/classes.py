"""The class table: 64 triples of shape, texture and palette.

Two shapes share two textures and two palettes. So any two of the three cues leave exactly two candidates, and only
all three together name the class.
"""

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class ClassCues:
    """The three cues of a class, keys of `SHAPES`, `TEXTURES` and `PALETTES`."""

    shape: str
    texture: str
    palette: str

    @property
    def name(self) -> str:
        """The name of the class and of its folder."""
        return f"{self.shape}-{self.texture}-{self.palette}"


# Two shapes, two textures and two palettes: each row is eight classes.
_ROWS = (
    ("arrow bolt", "stripes zigzag", "ember ocean"),
    ("cross star", "stripes zigzag", "moss plum"),
    ("bottle key", "dots scales", "moss plum"),
    ("fish leaf", "dots scales", "sand dusk"),
    ("gear ring", "checker bricks", "sand dusk"),
    ("house mushroom", "checker bricks", "berry mint"),
    ("butterfly heart", "ripples marble", "berry mint"),
    ("crescent spiral", "ripples marble", "ember ocean"),
)

_CUES = (ClassCues(*cues) for row in _ROWS for cues in product(*map(str.split, row)))
CLASSES: tuple[ClassCues, ...] = tuple(sorted(_CUES, key=lambda cues: cues.name))
"""Cues by label."""

CLASS_NAMES: tuple[str, ...] = tuple(cues.name for cues in CLASSES)
"""Folder names by label; sorted, so that a class-folder reader finds the same labels."""
