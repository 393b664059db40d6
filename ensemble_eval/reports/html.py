"""One self-contained page of tables, plots and pictures. Jinja escapes every name in it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import needing_extra
from ensemble_eval.tables.drawing import Plot, css_variables, with_variables
from ensemble_eval.tables.table import Table

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_DRAWING = re.compile(r"<svg\b.*</svg>", re.DOTALL)
_NOT_NEEDED = re.compile(r"\s*<metadata>.*?</metadata>|\s*<style type=\"text/css\">.*?</style>", re.DOTALL)
_ANCHOR = re.compile(r'(\bid="|"#|url\(#)')
_SIZE = re.compile(r' (?:width|height)="[^"]*pt"')


@dataclass(frozen=True)
class Answer:
    """One of the five best classes of an image.

    Attributes:
        name: of the class.
        probability: its mean softmax.
        is_label: whether it is the image's label.
    """

    name: str
    probability: float
    is_label: bool


@dataclass(frozen=True)
class GalleryImage:
    """A picture with its crops and what was answered.

    Attributes:
        image: its id.
        labels: the names of its classes.
        rank: of the best-ranked label among the classes, from 0.
        answers: the five best classes, best first.
        picture: a JPEG file.
        crops: a JPEG file of some crops side by side.
        crops_shown: how many.
    """

    image: str
    labels: tuple[str, ...]
    rank: int
    answers: tuple[Answer, ...]
    picture: bytes
    crops: bytes
    crops_shown: int


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        anchor: its id in the page.
        title: the heading.
        paragraphs: sentences below it.
        plots: pictures of numbers.
        tables: numbers.
        gallery: pictures of images.
    """

    anchor: str
    title: str
    paragraphs: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    gallery: tuple[GalleryImage, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the page.
        facts: what was evaluated on what, pairs of a term and what is said of it.
        warning: what must be seen first; None if there is nothing.
        claims: sentences on what the numbers allow to say.
        sections: in their order.
        left_out: sentences on what is not there, and why.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    warning: str | None
    claims: tuple[str, ...]
    sections: tuple[Section, ...]
    left_out: tuple[str, ...]


def page_html(page: Page) -> str:
    """The text of the page: no script, no request to anywhere, the same bytes for the same page.

    Raises:
        InputError: Jinja2 (the extra `[report]`) is not installed.
    """
    with needing_extra("report"):
        from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = jpeg_uri
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    return template.render(
        page=page, light=css_variables(dark=False), dark=css_variables(dark=True), svg=inline_svg
    )


def inline_svg(plot: Plot) -> str:
    """A plot as an element of the page: in the page's colours, with ids that no other plot has.

    Args:
        plot: drawn by `reports.plots`, so that its names are escaped already.
    """
    with needing_extra("report"):
        from markupsafe import Markup, escape

    found = _DRAWING.search(plot.svg)
    assert found is not None, "matplotlib writes one svg element"
    drawing = _NOT_NEEDED.sub("", with_variables(found[0]))
    drawing = _ANCHOR.sub(rf"\g<1>{plot.name}-", drawing)
    head, rest = drawing.split(">", 1)
    label = escape(plot.alternative)
    return Markup(f'{_SIZE.sub("", head)} role="img" aria-label="{label}">{rest}')


def jpeg_uri(data: bytes) -> str:
    """A JPEG file as an address that holds the file itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def sections_with_content(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The sections that have something to say."""
    return tuple(each for each in sections if each.tables or each.plots or each.gallery or each.paragraphs)
