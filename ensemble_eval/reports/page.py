"""The page of a report: its sections in their order, and its HTML. Jinja escapes every name in it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ensemble_eval.errors import first_names, needing_extra
from ensemble_eval.reports import findings, plots
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, calibration_tables, class_tables
from ensemble_eval.results.crop_study import CropStudy, crop_tables
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import (
    NOT_COMPARABLE,
    compact_table3,
    comparison_tables,
    member_tables,
    table2_table,
    table3_table,
)
from ensemble_eval.scoring.table3 import table3
from ensemble_eval.settings import OPTION_OF
from ensemble_eval.tables.drawing import Picture, Plot, css_variables, with_variables
from ensemble_eval.tables.formats import table_html
from ensemble_eval.tables.table import Table, counted_sentence, in_words, marked, marks

_TEMPLATE, _SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("html.jinja", "js"))
_DRAWING = re.compile(r"<svg\b.*</svg>", re.DOTALL)
_NOT_NEEDED = re.compile(r"\s*<metadata>.*?</metadata>|\s*<style type=\"text/css\">.*?</style>", re.DOTALL)
_ANCHOR = re.compile(r'(\bid="|"#|url\(#)')
# The page shows the beginning of long tables; their files have all rows.
_ROWS_IN_PAGE = 60
_SURFACE_CROPS_IN_PAGE = frozenset({1, 2, 5, 10, 24, 48, 72, 96, 120, 144})
_CODE = re.compile(r"`(.+?)`")
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
        title: The heading, a question of the reader.
        finding: A sentence that answers it; empty for none.
        plots: The first stands below the finding, and each further one beside its table.
        tables: The tables, as a whole; the page folds them, and each is a CSV file too.
        missing: Sentences on what the run does not provide, with the option that would have kept it.
        facts: Pairs of a term and its description.
        gallery: Pictures of images.
        pictures: The drawn plots.
    """

    anchor: str
    title: str
    finding: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    missing: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    gallery: Sequence[GalleryImage] = ()
    pictures: Sequence[Picture] = ()

    @property
    def has_content(self) -> bool:
        """Whether there is anything below the heading and the finding."""
        return bool(self.plots or self.tables or self.missing or self.facts or self.gallery)


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: The title of the page.
        evaluated: A sentence on what was evaluated.
        warnings: Sentences that stand out at the top.
        finding: The sentence of the whole report.
        summary: What the first screen shows beside that: one plot and one table, which is not folded.
        sections: The sections, in their order.
    """

    title: str
    evaluated: str
    warnings: tuple[str, ...]
    finding: str
    summary: Section
    sections: tuple[Section, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """The sentences of the whole report and of all sections."""
        found = (self.finding, *(section.finding for section in self.sections))
        return (*self.warnings, *filter(None, found))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sentences on what the run does not provide."""
        return tuple(dict.fromkeys(each for section in self.sections for each in section.missing))


def report_page(
    results: StoredRun,
    found: Analyses,
    study: CropStudy | None,
    names: ClassNames,
    pictures: Sequence[GalleryImage],
    left_out: Mapping[str, Sequence[str]],
    more: Sequence[Table],
    *,
    with_paper: bool,
) -> Page:
    """The contents of a report, with every table as a whole.

    Args:
        results: The results of the run.
        found: Its analyses.
        study: Its crop study, if it stored every label rank.
        names: The names of the classes; None for their indices.
        pictures: The hardest images.
        left_out: Sentences on what is missing from the report, by the anchor of their section.
        more: Further tables, for the section of all comparisons.
        with_paper: Put the paper's figures beside those of the run.
    """
    made = [
        *([table2_table(found, _data_text(results))] if with_paper else []),
        *comparison_tables(found),
        *(crop_tables(study, found.margin_points) if study else []),
        *member_tables(found),
        *calibration_tables(found),
        *class_tables(found, names),
        *more,
    ]
    tables = {table.name: table for table in made}

    def some(*wanted: str) -> list[Table]:
        return [tables.pop(name) for name in wanted if name in tables]

    def missing(anchor: str, *analyses: str) -> list[str]:
        reasons = [sentence(found.unavailable[name]) for name in analyses if name in found.unavailable]
        return [*dict.fromkeys(reasons), *left_out.get(anchor, ())]

    sections = [
        Section(
            "crops",
            "Do more crops help?",
            findings.crops_finding(found, study),
            plots=plots.crop_plots(found, study),
            tables=some("enough_crops", "averaging", "views", "surface"),
            missing=missing("crops"),
        ),
        Section(
            "models",
            "Do more models help?",
            findings.models_finding(found),
            plots=plots.size_plots(found),
            tables=some("sizes", "greedy", "subsets"),
            missing=missing("models", "ensembles"),
        ),
        Section(
            "members",
            "Which member helps?",
            findings.members_finding(found),
            plots=[plots.members_plot(found)] if len(results.members) > 1 else [],
            tables=some("one_model", "recipe", "leave_one_out", "diversity"),
        ),
        Section(
            "calibration",
            "Can I trust the confidence?",
            findings.calibration_finding(found),
            plots=plots.calibration_plots(found),
            tables=some("calibration", "reliability"),
            missing=missing("calibration", "calibration", "temperatures"),
        ),
        Section(
            "classes",
            "What does it get wrong?",
            findings.classes_finding(found, names),
            plots=plots.class_plots(found, names),
            tables=some("classes_top5", "classes_top1", "confused", "moved_top5", "moved_top1"),
            missing=missing("classes"),
            gallery=pictures,
        ),
        Section(
            "comparisons",
            "All rows compared",
            tables=[table3_table(found, with_paper=with_paper), *tables.values()],
            missing=missing("comparisons", "top-1"),
        ),
        Section("run", "About this run", facts=tuple(_facts(results, found))),
    ]
    published = found.published if with_paper else None
    summary = Section(
        "summary",
        "Table 3",
        plots=[plots.table3_plot(table3(found.decisions), published, NOT_COMPARABLE if found.counted else "")],
        tables=[compact_table3(found, with_paper=with_paper)],
    )
    return Page(
        f"Evaluation report: {results.folder.resolve().name}",
        _evaluated(results),
        tuple(_warnings(results, found)),
        findings.main_finding(found),
        _drawn(summary, results, found),
        tuple(_drawn(each, results, found) for each in sections if each.has_content),
    )


def _evaluated(results: StoredRun) -> str:
    """A sentence on the members, crops and images."""
    *fewer, most = map(str, results.crops)
    crops = f"{', '.join(fewer)} and {most}" if fewer else most
    return (
        f"{in_words(len(results.members), 'model').capitalize()} ({first_names(results.members, 9)}) with {crops} "
        f"{'crop' if crops == '1' else 'crops'} per image (protocol {results.key.rule.name}) on "
        f"{_images_text(results)}."
    )


def _warnings(results: StoredRun, found: Analyses) -> Iterator[str]:
    if not results.complete:
        yield (
            f"Partial: {results.missing} of {results.key.images} images are missing. Every number here may "
            "change, and none is final."
        )
    if found.counted:
        yield counted_sentence(found.counted)


def _images_text(results: StoredRun) -> str:
    dataset = ((results.record or {}).get("arguments") or {}).get("dataset")
    name = PurePath(dataset).name if isinstance(dataset, str) else ""
    return in_words(len(results.images), "image") + (f" of {name}" if name else "")


def _data_text(results: StoredRun) -> str:
    """The images of a run with their fingerprint, as a phrase."""
    return f"{_images_text(results)} (fingerprint {results.key.dataset[:12]})"


def _drawn(part: Section, results: StoredRun, found: Analyses) -> Section:
    """The section with its plots drawn; plots and tables say if they do not cover all images and classes."""
    known = marks(found.missing, results.key.images, found.counted, found.clusters)
    pictures = [plot.drawn([mark.note for mark in known]) for plot in part.plots]
    return replace(part, pictures=pictures, tables=[marked(each, known) for each in part.tables])


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


def page_html(page: Page) -> str:
    """The text of the page, which makes no requests; the same page has the same bytes.

    Raises:
        InputError: Jinja2 (the extra `[report]`) is not installed.
    """
    with needing_extra("report"):
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup, escape

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = lambda jpeg: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    environment.filters["in_page"] = _in_page
    environment.filters["html"] = lambda table: Markup(table_html(table))
    environment.filters["code"] = lambda text: Markup(_CODE.sub(_option, str(escape(text))))
    environment.filters["points"] = lambda picture: json.dumps(picture.points, ensure_ascii=False)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    script = _SCRIPT.read_text("utf-8")
    return template.render(
        page=page,
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        svg=_inline_svg,
        script=Markup(script),
        # The browser runs this script and no other.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _inline_svg(picture: Picture) -> Any:
    """A plot as an element of the page, in its colours, with unique ids. Matplotlib has escaped its names."""
    with needing_extra("report"):
        from markupsafe import Markup, escape

    found = _DRAWING.search(picture.svg)
    assert found is not None, "matplotlib writes one svg element"
    drawing = _NOT_NEEDED.sub("", with_variables(found[0]))
    drawing = _ANCHOR.sub(rf"\g<1>{picture.plot.name}-", drawing)
    head, rest = drawing.split(">", 1)
    label = escape(picture.alternative)
    return Markup(f'{_SIZE.sub("", head)} role="img" aria-label="{label}">{rest}')


def _option(argument: re.Match[str]) -> str:
    """An argument of the library as the option of the command line, and as in Python when pointed at."""
    words = argument[1]
    option = OPTION_OF.get(words) or words.removesuffix("=True").replace("_", "-").replace("=", " ")
    return f'<code title="In Python: {words}">--{option}</code>'


def _in_page(table: Table) -> Table:
    """The rows of a table that the page shows; a note says where the rest is."""
    if table.name != "surface":
        return table.first(_ROWS_IN_PAGE)
    crops = [column.key for column in table.columns].index("crops")
    some = tuple(row for row in table.rows if row[crops] in _SURFACE_CROPS_IN_PAGE)
    note = f"{len(some)} of {len(table.rows)} rows; {table.name}.csv has all of them."
    return replace(table, rows=some, notes=(*table.notes, note))
