"""The colours of pages: legible, and told apart by the colour-blind."""

import itertools

import numpy as np
import pytest

from ensemble_eval.tables.drawing import PALETTE, css_variables, with_variables

TEXT, MARKS, GROUNDS = (
    ("ink", "quiet", "link", "warning"),
    ("series-1", "series-2", "series-3"),
    ("ground", "panel"),
)
# Dichromats' view of linear RGB (Viénot, Brettel and Mollon, "Digital video colourmaps for checking the legibility
# of displays by dichromats", Color Research and Application 24, 1999).
PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours `#rrggbb` as WCAG 2.2 defines it, from 1 to 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_from_every_ground(dark: bool) -> None:
    def colour(role: str) -> str:
        return PALETTE[role].dark if dark else PALETTE[role].light

    for role, ground in itertools.product(TEXT, GROUNDS):
        assert contrast(colour(role), colour(ground)) >= 4.5, (role, ground)
    for role, ground in itertools.product(MARKS, GROUNDS):
        assert contrast(colour(role), colour(ground)) >= 3, (role, ground)


def test_contrast_is_that_of_the_specification() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    # The lightest grey that passes on white, a value that WCAG's readers know.
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("sight", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
@pytest.mark.parametrize("dark", [False, True])
def test_series_are_told_apart_whatever_one_sees(sight: np.ndarray, dark: bool) -> None:
    seen = [sight @ _linear(PALETTE[role].dark if dark else PALETTE[role].light) for role in MARKS]
    for one, other in itertools.combinations(seen, 2):
        assert np.abs(np.cbrt(np.maximum(one, 0)) - np.cbrt(np.maximum(other, 0))).max() > 0.1


def test_plots_take_the_colours_of_the_page() -> None:
    assert with_variables("fill: #1b1f24; stroke: #123456") == "fill: var(--ink); stroke: #123456"
    assert "--ink: #e6e9ec;" in css_variables(dark=True)
    assert len({colour.light for colour in PALETTE.values()}) == len(PALETTE)


def _linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
