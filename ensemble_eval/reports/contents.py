"""All of a report, before any of it is written: its tables, its plots, and the page that holds both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from ensemble_eval.evaluation.key import RunKey
from ensemble_eval.reports.html import GalleryImage, Page, Section, sections_with_content
from ensemble_eval.reports.plots import calibration_plots, class_plots, member_plots, row_plots
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, calibration_tables, class_tables
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.results.crop_tables import crop_tables, enough_sentence
from ensemble_eval.results.member_tables import member_tables
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import comparison_tables, table2_table, table3_table
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.table3 import TOP_5, Configuration
from ensemble_eval.tables.drawing import Plot, with_notes
from ensemble_eval.tables.table import Column, Table, counted_sentence, marked, marks, shown

# Of long tables the page has the beginning; their files have all.
_ROWS_IN_PAGE = 30
# As many as the plot beside them shows, or as a reader looks at.
_ROWS_OF = {"diversity": 66, "reliability": 45, "confused": 20}
# Of the surface.
_CROPS_IN_PAGE = frozenset({1, 2, 5, 10, 24, 48, 72, 96, 120, 144})

_POINTS = Column("difference", "difference", "points")
_INTERVAL = Column("difference", "95% interval", "points interval")
_P = Column("p", "p", "p")


@dataclass(frozen=True)
class Contents:
    """What a report holds.

    Attributes:
        tables: every table, whole.
        plots: every plot.
        page: with the beginnings of long tables.
    """

    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    page: Page


def contents(
    results: StoredRun,
    found: Analyses,
    study: CropStudy | None,
    names: ClassNames,
    gallery: Sequence[GalleryImage],
    left_out: Sequence[str],
    *,
    with_paper: bool,
) -> Contents:
    """Everything that a report says of a run.

    Args:
        results: of the run.
        found: its analyses.
        study: of the run, if it kept every rank.
        names: of the classes; None for their indices.
        gallery: pictures of the hardest images.
        left_out: sentences on what is not there.
        with_paper: put what the paper prints beside it.
    """
    parts = [
        _marked(each, results, found)
        for each in _parts(results, found, study, names, gallery, with_paper=with_paper)
    ]
    sections = sections_with_content([replace(part, tables=tuple(map(_in_page, part.tables))) for part in parts])
    not_there = [_sentence(why) for why in dict.fromkeys(found.unavailable.values())]
    page = Page(
        f"Report of {results.folder.resolve().name}",
        tuple(_facts(results, found)),
        _warning(results),
        tuple(claims(found)),
        sections,
        (*not_there, *left_out),
    )
    return Contents(
        tuple(table for part in parts for table in part.tables),
        tuple(plot for part in parts for plot in part.plots),
        page,
    )


def data_text(record: Any, key: RunKey, images: int) -> str:
    """The images of a run, as a phrase.

    Args:
        record: what `run.json` says; None if there is none.
        key: of the run.
        images: that were evaluated.
    """
    arguments = (record or {}).get("arguments") or {}
    dataset = arguments.get("dataset")
    source = f" of {PurePath(dataset).name}" if isinstance(dataset, str) and PurePath(dataset).name else ""
    return f"{images} images{source} (fingerprint {key.dataset[:12]})"


def _parts(
    results: StoredRun,
    found: Analyses,
    study: CropStudy | None,
    names: ClassNames,
    gallery: Sequence[GalleryImage],
    *,
    with_paper: bool,
) -> list[Section]:
    data = data_text(results.record, results.key, len(results.images))
    entries = [table2_table(found, data)] if with_paper else []
    rows = row_plots(found, study, with_paper=with_paper), [table3_table(found, with_paper=with_paper)]
    return [
        _section("table-3", "Table 3", *rows),
        _section("rows", "Rows against each other", [], comparison_tables(found)),
        _crop_section(found, study),
        _section("members", "Members and their ensembles", member_plots(found), member_tables(found)),
        _section("calibration", "Calibration", calibration_plots(found), calibration_tables(found)),
        _section("classes", "Classes and images", class_plots(found), class_tables(found, names)),
        _section("table-2", "Table 2", [], entries),
        Section("hardest", "The hardest images", _gallery_words(found, gallery), gallery=tuple(gallery)),
    ]


def _section(anchor: str, title: str, plots: Sequence[Plot], tables: Sequence[Table]) -> Section:
    return Section(anchor, title, (), tuple(plots), tuple(tables))


def _crop_section(found: Analyses, study: CropStudy | None) -> Section:
    section = Section("crops", "Crops, views and averages")
    if study is None:
        return section
    tables = tuple(crop_tables(study, found.margin_points))
    return replace(section, paragraphs=(enough_sentence(study),), tables=tables)


def _gallery_words(found: Analyses, gallery: Sequence[GalleryImage]) -> tuple[str, ...]:
    if not gallery:
        return ()
    last = found.classes.last
    return (
        f"These are the images whose label stands lowest among the classes of {last}. Below each picture are its "
        f"first {gallery[0].crops_shown} crops, and the five best classes with their mean softmax.",
    )


def _in_page(table: Table) -> Table:
    """What the page has of a table; a note says where the rest is."""
    if table.name != "surface":
        return table.first(_ROWS_OF.get(table.name, _ROWS_IN_PAGE), "rows")
    crops = [column.key for column in table.columns].index("crops")
    some = tuple(row for row in table.rows if row[crops] in _CROPS_IN_PAGE)
    note = f"{len(some)} of {len(table.rows)} rows; {table.name}.csv has all."
    return replace(table, rows=some, notes=(*table.notes, note))


def _marked(part: Section, results: StoredRun, found: Analyses) -> Section:
    """The section with every table and plot saying what is missing and counted, where that is not the usual."""
    known = marks(found.missing, results.key.images, found.counted)
    notes = [mark.note for mark in known]
    plots = tuple(with_notes(each, notes) for each in part.plots)
    return replace(part, plots=plots, tables=tuple(marked(each, known) for each in part.tables))


def _warning(results: StoredRun) -> str | None:
    if results.complete:
        return None
    return (
        f"Partial: {results.missing} of {results.key.images} images are missing. Every number here may change, "
        "and none is a result."
    )


def _facts(results: StoredRun, found: Analyses) -> list[tuple[str, str]]:
    key = results.key
    unreadable = f"; {len(results.unreadable)} more could not be read" if results.unreadable else ""
    return [
        ("Members", ", ".join(results.members)),
        ("Crops", ", ".join(map(str, results.crops))),
        ("Images", data_text(results.record, key, len(results.images)) + unreadable),
        *(("Counted", phrase) for phrase in found.counted),
        ("Run", f"{key.precision}, {key.backend}, {key.device_type or 'device not recorded'}"),
        ("Margin", f"errors that differ by less than {found.margin_points:g} points count as equal"),
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def claims(found: Analyses) -> list[str]:
    """Sentences on the whole table, on more crops, and on more models, each adjusted for all pairs of rows."""
    rows = found.configurations
    between = found.comparisons[TOP_5].between
    counted = [counted_sentence(found.counted)] if found.counted else []
    if not between:
        return [*counted, "There is one row, so nothing is compared."]
    pairs = {(each.base, each.other): each for each in between}
    schemes = len(found.decisions.crops)
    asked = {(0, len(rows) - 1): None}
    if schemes > 1:
        asked |= {(len(rows) - 2, len(rows) - 1): None}
    if len(rows) > schemes:
        asked |= {(schemes - 1, len(rows) - 1): None}
    sentences = [claim(pairs[pair], rows[pair[0]], rows[pair[1]]) for pair in asked]
    return [*counted, *sentences, _what_it_rests_on(found, len(between))]


def claim(found: PairedDifference, base: Configuration, other: Configuration) -> str:
    """One sentence on two rows.

    Args:
        found: how they differ.
        base, other: the rows.
    """
    difference = shown(found.difference_points, _POINTS)
    interval = shown((found.low_points, found.high_points), _INTERVAL)
    measured = (
        f"{difference} points of top-5 error, 95% interval {interval}; {found.fixed} images fixed, "
        f"{found.broken} broken; adjusted p {shown(found.adjusted_p, _P)}"
    )
    if found.is_different:
        small = f", but by less than {found.margin_points:g} points" if found.is_equal_within_margin else ""
        return f"{other} is {found.verdict} than {base}{small}: {measured}."
    if found.is_equal_within_margin:
        return f"{other} and {base} are {found.verdict_text}: {measured}."
    return f"{other} and {base} cannot be told apart, which does not mean that they are equal: {measured}."


def _what_it_rests_on(found: Analyses, comparisons: int) -> str:
    adjusted = (
        f" Their p-values are adjusted for all {comparisons} pairs of rows, the intervals are not."
        if comparisons > 1
        else ""
    )
    return (
        f"These sentences are about {len(found.decisions.images)} images and these weights.{adjusted} The member "
        "that stands for one model was chosen on the same images, by the paper's rule, which flatters it."
    )
