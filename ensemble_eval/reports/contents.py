"""The contents of a report: its sections with their tables and plots, and the sentences on its first page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from ensemble_eval.evaluation.key import RunKey
from ensemble_eval.reports.html import GalleryImage, Page, Section
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
from ensemble_eval.tables.drawing import with_notes
from ensemble_eval.tables.table import Column, counted_sentence, marked, marks, shown

_POINTS = Column("difference", "difference", "points")
_INTERVAL = Column("difference", "95% interval", "points interval")
_P = Column("p", "p", "p")


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
    parts = _parts(results, found, study, names, pictures, with_paper=with_paper)
    return Page(
        f"Report of {results.folder.resolve().name}",
        tuple(_facts(results, found)),
        _warning(results),
        tuple(claims(found)),
        tuple(_marked(each, results, found) for each in parts if each.has_content),
        (*(sentence(why) for why in dict.fromkeys(found.unavailable.values())), *left_out),
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
    crops = Section("crops", "Crops, views and averages")
    if study is not None:
        tables = crop_tables(study, found.margin_points)
        crops = replace(crops, paragraphs=[enough_sentence(study)], tables=tables)
    return [
        Section(
            "table-3",
            "Table 3",
            plots=row_plots(found, study, with_paper=with_paper),
            tables=[table3_table(found, with_paper=with_paper)],
        ),
        Section("rows", "Rows against each other", tables=comparison_tables(found)),
        crops,
        Section("members", "Members and their ensembles", plots=member_plots(found), tables=member_tables(found)),
        Section("calibration", "Calibration", plots=calibration_plots(found), tables=calibration_tables(found)),
        Section("classes", "Classes and images", plots=class_plots(found), tables=class_tables(found, names)),
        Section("table-2", "Table 2", tables=[table2_table(found, data)] if with_paper else []),
        Section("hardest", "The hardest images", _gallery_words(found, gallery), gallery=gallery),
    ]


def _gallery_words(found: Analyses, gallery: Sequence[GalleryImage]) -> tuple[str, ...]:
    if not gallery:
        return ()
    last = found.classes.last
    return (
        f"These are the images whose label stands lowest among the classes of {last}. Below each picture are its "
        f"first {gallery[0].crops_shown} crops, and the five best classes with their mean softmax.",
    )


def _marked(part: Section, results: StoredRun, found: Analyses) -> Section:
    """The section with every table and plot saying what is missing and counted, where that is not the usual."""
    known = marks(found.missing, results.key.images, found.counted)
    notes = [mark.note for mark in known]
    plots = [with_notes(each, notes) for each in part.plots]
    return replace(part, plots=plots, tables=[marked(each, known) for each in part.tables])


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


def sentence(reason: object) -> str:
    """A reason as a sentence: with a capital letter and a full stop."""
    text = str(reason)
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
