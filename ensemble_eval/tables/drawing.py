"""The style of plots. Matplotlib opens no window, leaves the home folder alone, and draws reproducible bytes."""

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
    """The colour of one role on a light page, which files of plots use, and on a dark page; `#rrggbb`."""

    light: str
    dark: str


# Tests check that text has a contrast of 4.5, and marks of 3 (WCAG 2.2, 1.4.3 and 1.4.11). The series are the
# blue, vermilion and green of Okabe and Ito, made darker or lighter for the background of the page.
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

COLOURS = [PALETTE[f"series-{number}"].light for number in (1, 2, 3)]
MARKERS = ["o", "s", "^"]
WIDTH_INCHES = 4.8
_PNG_DPI = 200
# The length of a line of small print below a plot.
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
    """A picture of numbers that a table contains too.

    Attributes:
        name: The stem of its files.
        title: A phrase below it.
        alternative: A description in sentences, for readers who cannot see it.
        svg: The text of an SVG file, in the light colours.
        png: The bytes of a PNG file.
        table: The name of the table with the same numbers.
        figure: Matplotlib's figure.
        notes: Sentences below it.
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
    """A figure with one pair of axes, in the style of this package; settings of the caller have no effect."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        yield figure, figure.add_subplot()


def finished(figure: "Figure", name: str, title: str, alternative: str, table: str) -> Plot:
    """The plot of a figure that was drawn within `axes`; arguments are the attributes of `Plot`."""
    return Plot(name, title, alternative, *_files(figure), table, figure)


def with_notes(plot: Plot, notes: Sequence[str]) -> Plot:
    """The same plot with sentences below it, also in its files."""
    if not notes:
        return plot
    lines = [line for note in notes for line in textwrap.wrap(note, _NOTE_CHARACTERS)]
    with _style():
        plot.figure.supxlabel("\n".join(lines), x=0, ha="left", fontsize=7)
        svg, png = _files(plot.figure)
    alternative = " ".join((plot.alternative, *notes))
    return replace(plot, alternative=alternative, svg=svg, png=png, notes=tuple(notes))


def css_variables(*, dark: bool) -> str:
    """The palette of the light or the dark page as declarations of CSS, `--ink: #1b1f24; …`."""
    return " ".join(f"--{role}: {colour.dark if dark else colour.light};" for role, colour in PALETTE.items())


def with_variables(svg: str) -> str:
    """A plot with the variables of the page in place of the light colours.

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
        # For a name in another script, an SVG uses the fonts of the reader, and a PNG shows a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _matplotlib() -> Any:
    """Matplotlib. It writes a list of fonts when it is imported, here into a folder that is removed.

    A caller who has imported it before, or has set MPLCONFIGDIR, has chosen another folder.
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
