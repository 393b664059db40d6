"""The page of a report: its sections, sentences and HTML. Jinja escapes every name in it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from ensemble_eval.errors import needing_extra
from ensemble_eval.reports.plots import calibration_plots, class_plots, member_plots, row_plots
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, calibration_tables, class_tables
from ensemble_eval.results.crop_study import CropStudy, crop_tables, enough_sentence
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import comparison_tables, member_tables, table2_table, table3_table
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.table3 import TOP_5, Configuration
from ensemble_eval.tables.drawing import Plot, css_variables, with_notes, with_variables
from ensemble_eval.tables.table import Table, counted_sentence, marked, marks, shown

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


def report_page(
    results: StoredRun,
    found: Analyses,
    study: CropStudy | None,
    names: ClassNames,
    pictures: Sequence[GalleryImage],
    left_out: Sequence[str],
    *,
    with_paper: bool,
) -> Page:
    """The contents of a report, with every table as a whole.

    Args:
        results: Of the run.
        found: Its analyses.
        study: The same run's, if it stored every label rank.
        names: Of the classes; None for their indices.
        pictures: The hardest images.
        left_out: Sentences on what is missing from the report.
        with_paper: Put the paper's figures beside those of the run.
    """
    entries = [table2_table(found, _data_text(results))] if with_paper else []
    rows = [table3_table(found, with_paper=with_paper)]
    sections = [
        Section("table-3", "Table 3", plots=row_plots(found, study, with_paper=with_paper), tables=rows),
        Section("rows", "Rows against each other", tables=comparison_tables(found)),
        Section(
            "crops",
            "Crops, views and averages",
            paragraphs=[enough_sentence(study)] if study else [],
            tables=crop_tables(study, found.margin_points) if study else [],
        ),
        Section("members", "Members and their ensembles", plots=member_plots(found), tables=member_tables(found)),
        Section("calibration", "Calibration", plots=calibration_plots(found), tables=calibration_tables(found)),
        Section("classes", "Classes and images", plots=class_plots(found), tables=class_tables(found, names)),
        Section("table-2", "Table 2", tables=entries),
        Section(
            "hardest",
            "The hardest images",
            paragraphs=[
                f"These are the images whose label stands lowest among the classes of {found.classes.last}. Below "
                f"each picture are its first {each.crops_shown} crops, and the five best classes with their mean "
                "softmax."
                for each in pictures[:1]
            ],
            gallery=pictures,
        ),
    ]
    warning = (
        f"Partial: {results.missing} of {results.key.images} images are missing. Every number here may change, "
        "and none is a result."
    )
    return Page(
        f"Report of {results.folder.resolve().name}",
        tuple(_facts(results, found)),
        None if results.complete else warning,
        tuple(claims(found)),
        tuple(_marked(each, results, found) for each in sections if each.has_content),
        (*(sentence(why) for why in dict.fromkeys(found.unavailable.values())), *left_out),
    )


def _data_text(results: StoredRun) -> str:
    """The images of a run, as a phrase."""
    dataset = ((results.record or {}).get("arguments") or {}).get("dataset")
    name = PurePath(dataset).name if isinstance(dataset, str) else ""
    source = f" of {name}" if name else ""
    return f"{len(results.images)} images{source} (fingerprint {results.key.dataset[:12]})"


def _marked(part: Section, results: StoredRun, found: Analyses) -> Section:
    """The section with remarks in every table and plot, if its numbers do not cover all images and classes."""
    known = marks(found.missing, results.key.images, found.counted)
    notes = [mark.note for mark in known]
    plots = [with_notes(each, notes) for each in part.plots]
    return replace(part, plots=plots, tables=[marked(each, known) for each in part.tables])


def _facts(results: StoredRun, found: Analyses) -> list[tuple[str, str]]:
    key = results.key
    unreadable = f"; {len(results.unreadable)} more could not be read" if results.unreadable else ""
    return [
        ("Members", ", ".join(results.members)),
        ("Crops", ", ".join(map(str, results.crops))),
        ("Images", _data_text(results) + unreadable),
        *(("Counted", phrase) for phrase in found.counted),
        ("Run", f"{key.precision}, {key.backend}, {key.device_type or 'device not recorded'}"),
        ("Margin", f"errors that differ by less than {found.margin_points:g} points count as equal"),
    ]


def sentence(reason: object) -> str:
    """A reason as a sentence: with a capital letter and a full stop."""
    text = str(reason)
    return f"{text[:1].upper()}{text[1:]}."


def claims(found: Analyses) -> list[str]:
    """Sentences on the whole table, on more crops, and on more models, each adjusted for all pairs of rows."""
    rows, schemes = found.configurations, len(found.decisions.crops)
    pairs = {(each.base, each.other): each for each in found.comparisons[TOP_5].between}
    counted = [counted_sentence(found.counted)] if found.counted else []
    if not pairs:
        return [*counted, "There is one row, so nothing is compared."]
    last = len(rows) - 1
    bases = [0]
    if schemes > 1:
        bases.append(last - 1)
    if len(rows) > schemes:
        bases.append(schemes - 1)
    sentences = [claim(pairs[base, last], rows[base], rows[last]) for base in dict.fromkeys(bases)]
    adjusted = (
        f" Their p-values are adjusted for all {len(pairs)} pairs of rows, the intervals are not."
        if len(pairs) > 1
        else ""
    )
    basis = (
        f"These sentences are about {len(found.decisions.images)} images and these weights.{adjusted} The member "
        "that stands for one model was chosen on the same images, by the paper's rule, which flatters it."
    )
    return [*counted, *sentences, basis]


def claim(found: PairedDifference, base: Configuration, other: Configuration) -> str:
    """One sentence on two rows.

    Args:
        found: Their difference.
        base, other: The rows.
    """
    difference = shown(found.difference_points, "points")
    interval = shown((found.low_points, found.high_points), "points interval")
    measured = (
        f"{difference} points of top-5 error, 95% interval {interval}; {found.fixed} images fixed, "
        f"{found.broken} broken; adjusted p {shown(found.adjusted_p, 'p')}"
    )
    if found.is_different:
        small = f", but by less than {found.margin_points:g} points" if found.is_equal_within_margin else ""
        return f"{other} is {found.verdict} than {base}{small}: {measured}."
    if found.is_equal_within_margin:
        return f"{other} and {base} are {found.verdict_text}: {measured}."
    unequal = "cannot be told apart, which does not mean that they are equal"
    return f"{other} and {base} {unequal}: {measured}; {_power(found)}."


def _power(found: PairedDifference) -> str:
    """What so many images would have shown of two rows that cannot be told apart."""
    if found.detectable_points is None:
        return "so few images that only one row gets wrong show no difference reliably"
    return f"so many images show a difference from {found.detectable_points:.1f} points on in 80% of cases"


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
