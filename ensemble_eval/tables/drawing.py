"""The style of plots. Matplotlib opens no window, leaves the home folder alone, and draws reproducible bytes."""

import contextlib
import io
import os
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
    # In a browser, text boxes are taller than their letters.
    "figure.constrained_layout.h_pad": 0.1,
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
    # The first labels of both axes must not touch.
    "xtick.major.pad": 7,
    "ytick.color": _LIGHT["quiet"],
    "ytick.labelcolor": _LIGHT["ink"],
}
_importing = threading.Lock()


Point = tuple[float, float, str]


class Description(NamedTuple):
    """The content of a plot for readers who point at it, or cannot see it.

    Attributes:
        text: Sentences with the numbers.
        points: The positions of marks in the units of the axes, each with its numbers as text.
    """

    text: str
    points: Sequence[Point] = ()


@dataclass(frozen=True)
class Plot:
    """A plot of numbers that a table contains too, not yet drawn.

    Attributes:
        name: The stem of its files.
        title: A phrase below it.
        table: The name of the table with the same numbers.
        draw: Draws on axes of matplotlib, and describes the plot.
        height_inches: The height of its figure.
    """

    name: str
    title: str
    table: str
    draw: Callable[["Axes"], Description]
    height_inches: float = 3.2

    def on(self, axes: "Axes | None" = None) -> "Axes":
        """Draw on some axes, or with pyplot on those of a new figure, which a notebook then shows."""
        with _style():
            if axes is None:
                from matplotlib import pyplot

                size = WIDTH_INCHES, self.height_inches
                axes = pyplot.figure(figsize=size, layout="constrained").add_subplot()
            self.draw(axes)
        return axes

    def drawn(self, notes: Sequence[str] = ()) -> "Picture":
        """The files of the plot, with sentences below it; settings of the caller have no effect."""
        lines = [line for note in notes for line in textwrap.wrap(note, _NOTE_CHARACTERS)]
        with _style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(WIDTH_INCHES, self.height_inches), layout="constrained")
            axes = figure.add_subplot()
            described = self.draw(axes)
            if lines:
                figure.supxlabel("\n".join(lines), x=0, ha="left", fontsize=7)
            svg, png = _files(figure)
            to_figure = axes.transData + figure.transFigure.inverted()
            at = [to_figure.transform(point[:2]).tolist() for point in described.points]
        points = [
            (round(x, 4), round(1 - y, 4), point[2]) for (x, y), point in zip(at, described.points, strict=True)
        ]
        alternative = " ".join((described.text, *notes))
        return Picture(self, alternative, svg, png, tuple(points))


@dataclass(frozen=True)
class Picture:
    """A drawn plot.

    Attributes:
        plot: The plot.
        alternative: A description in sentences, for readers who cannot see it.
        svg: The text of an SVG file, in the light colours.
        png: The bytes of a PNG file.
        points: As in `Description`, in fractions of the picture from its upper left corner.
    """

    plot: Plot = field(compare=False)
    alternative: str
    svg: str
    png: bytes
    points: tuple[Point, ...]


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
