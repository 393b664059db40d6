"""The colours of pages and plots: told apart by the colour-blind, legible on white and on black."""

from typing import NamedTuple


class Colour(NamedTuple):
    """One role's colour on a light page, as in files of plots, and on a dark one; `#rrggbb`."""

    light: str
    dark: str


# Roles of text are checked for a contrast of 4.5 in the tests, those of marks for 3 (WCAG 2.2, 1.4.3 and 1.4.11).
# The series are Okabe and Ito's blue, vermilion and green, made darker or lighter for the page's ground.
PALETTE = {
    "ground": Colour("#ffffff", "#14171b"),
    "panel": Colour("#f4f6f8", "#1d2227"),
    "ink": Colour("#1b1f24", "#e6e9ec"),
    "quiet": Colour("#545d68", "#a9b2bc"),
    "line": Colour("#d3d8de", "#3a424b"),
    "link": Colour("#00599a", "#7cc0f0"),
    "warning": Colour("#8a3300", "#ffb27a"),
    "series-1": Colour("#0072b1", "#56b4e9"),
    "series-2": Colour("#c44f00", "#f0883e"),
    "series-3": Colour("#00785a", "#2fc79a"),
}


def css_variables(*, dark: bool) -> str:
    """The palette as declarations of CSS, `--ink: #1b1f24; …`.

    Args:
        dark: those of the dark page.
    """
    return " ".join(f"--{role}: {colour.dark if dark else colour.light};" for role, colour in PALETTE.items())


def with_variables(svg: str) -> str:
    """A plot drawn in the light colours, with the page's variables in their place.

    Example:
        >>> with_variables('<path style="fill: #0072b1"/>')
        '<path style="fill: var(--series-1)"/>'
    """
    for role, colour in PALETTE.items():
        svg = svg.replace(colour.light, f"var(--{role})")
    return svg


def contrast(one: str, other: str) -> float:
    """The contrast of two colours `#rrggbb` as WCAG 2.2 defines it, from 1 to 21.

    Example:
        >>> contrast("#ffffff", "#000000")
        21.0
    """
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
