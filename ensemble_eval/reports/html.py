"""One self-contained page of tables, plots and pictures. Jinja escapes every name in it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble_eval.errors import needing_extra
from ensemble_eval.tables.drawing import Plot, css_variables, with_variables
from ensemble_eval.tables.table import Table

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_DRAWING = re.compile(r"<svg\b.*</svg>", re.DOTALL)
_NOT_NEEDED = re.compile(r"\s*<metadata>.*?</metadata>|\s*<style type=\"text/css\">.*?</style>", re.DOTALL)
_ANCHOR = re.compile(r'(\bid="|"#|url\(#)')
# The page shows the beginning of long tables; their files have all rows.
_ROWS_IN_PAGE = 30
# Some show as many rows as the plot beside them, or as a reader looks at.
_ROWS_OF = {"diversity": 66, "reliability": 45, "confused": 20}
_SURFACE_CROPS_IN_PAGE = frozenset({1, 2, 5, 10, 24, 48, 72, 96, 120, 144})
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"')


@dataclass(frozen=True)
class GalleryImage:
    """A picture with its crops and its best classes.

    Attributes:
        image: Its id.
        labels: The names of its classes.
        rank: The rank of the best-ranked label, from 0.
        answers: The five best classes, best first, with their mean softmax, and whether each is a label.
        picture: A JPEG file.
        crops: A JPEG file of some crops side by side.
        crops_shown: The number of these crops.
    """

    image: str
    labels: tuple[str, ...]
    rank: int
    answers: tuple[tuple[str, float, bool], ...]
    picture: bytes
    crops: bytes
    crops_shown: int


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        anchor: Its id in the page.
        title: The heading.
        paragraphs: Sentences below the heading.
        plots: The plots.
        tables: The tables, as a whole.
        gallery: Pictures of images.
    """

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    gallery: Sequence[GalleryImage] = ()

    @property
    def has_content(self) -> bool:
        """Whether there is anything below the heading."""
        return bool(self.paragraphs or self.plots or self.tables or self.gallery)


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: The title of the page.
        facts: Pairs of a term and its description: the members, the images, and more.
        warning: A sentence that stands out at the top; None for none.
        claims: Sentences with the conclusions that the numbers allow.
        sections: The sections, in their order.
        left_out: Sentences on missing contents, with the reason.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    warning: str | None
    claims: tuple[str, ...]
    sections: tuple[Section, ...]
    left_out: tuple[str, ...]


def page_html(page: Page) -> str:
    """The text of the page, without scripts and requests; the same page has the same bytes.

    Raises:
        InputError: Jinja2 (the extra `[report]`) is not installed.
    """
    with needing_extra("report"):
        from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = _jpeg_uri
    environment.filters["in_page"] = _in_page
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    return template.render(
        page=page, light=css_variables(dark=False), dark=css_variables(dark=True), svg=_inline_svg
    )


def _inline_svg(plot: Plot) -> str:
    """A plot as an element of the page, in its colours, with unique ids. Matplotlib has escaped its names."""
    with needing_extra("report"):
        from markupsafe import Markup, escape

    found = _DRAWING.search(plot.svg)
    assert found is not None, "matplotlib writes one svg element"
    drawing = _NOT_NEEDED.sub("", with_variables(found[0]))
    drawing = _ANCHOR.sub(rf"\g<1>{plot.name}-", drawing)
    head, rest = drawing.split(">", 1)
    label = escape(plot.alternative)
    return Markup(f'{_SIZE.sub("", head)} role="img" aria-label="{label}">{rest}')


def _jpeg_uri(data: bytes) -> str:
    """A JPEG file as an address that holds the file itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _in_page(table: Table) -> Table:
    """The rows of a table that the page shows; a note says where the rest is."""
    if table.name != "surface":
        return table.first(_ROWS_OF.get(table.name, _ROWS_IN_PAGE))
    crops = [column.key for column in table.columns].index("crops")
    some = tuple(row for row in table.rows if row[crops] in _SURFACE_CROPS_IN_PAGE)
    note = f"{len(some)} of {len(table.rows)} rows; {table.name}.csv has all."
    return replace(table, rows=some, notes=(*table.notes, note))
