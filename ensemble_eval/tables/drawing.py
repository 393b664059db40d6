"""Matplotlib as this package uses it: no window, nothing in the home folder, the same bytes every time."""

import contextlib
import io
import os
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ensemble_eval.errors import needing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

WIDTH_INCHES = 4.8
_PNG_DPI = 200
# What fits below a plot in small print.
_NOTE_CHARACTERS = 85
_LIGHT = {role: colour.light for role, colour in PALETTE.items()}
_SETTINGS: dict[str, Any] = {
    "axes.edgecolor": _LIGHT["quiet"],
    "axes.labelcolor": _LIGHT["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": _LIGHT["line"],
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ensemble-eval",
    "text.color": _LIGHT["ink"],
    "text.parse_math": False,
    "xtick.color": _LIGHT["quiet"],
    "xtick.labelcolor": _LIGHT["ink"],
    "ytick.color": _LIGHT["quiet"],
    "ytick.labelcolor": _LIGHT["ink"],
}
_importing = threading.Lock()


@dataclass(frozen=True)
class Plot:
    """A picture of numbers that some table holds too.

    Attributes:
        name: the stem of its files.
        title: what stands below it, a phrase.
        alternative: what it shows, in sentences, for those who do not see it.
        svg: the text of an SVG file, in the light colours.
        png: the bytes of a PNG file.
        table: the name of the table with the same numbers.
        figure: what was drawn.
        notes: sentences that stand below it.
    """

    name: str
    title: str
    alternative: str
    svg: str
    png: bytes
    table: str
    figure: "Figure" = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def axes(height_inches: float = 3.2) -> Iterator[tuple["Figure", "Axes"]]:
    """A figure with one pair of axes, drawn in this package's style whatever the caller's settings are."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        yield figure, figure.add_subplot()


def finished(figure: "Figure", name: str, title: str, alternative: str, table: str) -> Plot:
    """The files of a figure; call it within `axes`.

    Args:
        figure: drawn.
        name, title, alternative, table: see `Plot`.
    """
    return Plot(name, title, alternative, *_files(figure), table, figure)


def with_notes(plot: Plot, notes: Sequence[str]) -> Plot:
    """The same plot with sentences below it, in its files too."""
    if not notes:
        return plot
    lines = [line for note in notes for line in textwrap.wrap(note, _NOTE_CHARACTERS)]
    with _style():
        plot.figure.supxlabel("\n".join(lines), x=0, ha="left", fontsize=7)
        svg, png = _files(plot.figure)
    alternative = " ".join((plot.alternative, *notes))
    return replace(plot, alternative=alternative, svg=svg, png=png, notes=tuple(notes))


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


def _files(figure: "Figure") -> tuple[str, bytes]:
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=_PNG_DPI, facecolor=_LIGHT["ground"], metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


@contextlib.contextmanager
def _style() -> Iterator[None]:
    matplotlib = _matplotlib()
    with warnings.catch_warnings(), matplotlib.rc_context():
        # A name in another script: the SVG leaves it to the reader's fonts, the PNG shows a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _matplotlib() -> Any:
    """Matplotlib. Its list of fonts, which it writes when it is imported, goes into a folder that is removed.

    Who has imported it before, or set MPLCONFIGDIR, has said where its files belong.
    """
    with needing_extra("report"), _importing, tempfile.TemporaryDirectory(prefix="ensemble-eval-") as folder:
        is_set = "MPLCONFIGDIR" in os.environ
        os.environ.setdefault("MPLCONFIGDIR", folder)
        try:
            import matplotlib
            import matplotlib.font_manager
        finally:
            if not is_set:
                del os.environ["MPLCONFIGDIR"]
        return matplotlib
