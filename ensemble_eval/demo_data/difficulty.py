"""How hard the pictures are: every number that a trial training may ask to change, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """Ranges are (lowest, highest); a draw is uniform unless said otherwise.

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
