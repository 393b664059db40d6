"""The contents of a report: its sections with their tables and plots, and the sentences on its first page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from ensemble_eval.reports.html import GalleryImage, Page, Section
from ensemble_eval.reports.plots import calibration_plots, class_plots, member_plots, row_plots
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.class_tables import ClassNames, calibration_tables, class_tables
from ensemble_eval.results.crop_study import CropStudy, crop_tables, enough_sentence
from ensemble_eval.results.member_tables import member_tables
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.row_tables import comparison_tables, table2_table, table3_table
from ensemble_eval.scoring.paired import PairedDifference
from ensemble_eval.scoring.table3 import TOP_5, Configuration
from ensemble_eval.tables.drawing import with_notes
from ensemble_eval.tables.table import counted_sentence, marked, marks, shown


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


def _data_text(results: StoredRun) -> str:
    """The images of a run, as a phrase."""
    dataset = ((results.record or {}).get("arguments") or {}).get("dataset")
    name = PurePath(dataset).name if isinstance(dataset, str) else ""
    source = f" of {name}" if name else ""
    return f"{len(results.images)} images{source} (fingerprint {results.key.dataset[:12]})"


def _parts(
    results: StoredRun,
    found: Analyses,
    study: CropStudy | None,
    names: ClassNames,
    pictures: Sequence[GalleryImage],
    *,
    with_paper: bool,
) -> list[Section]:
    entries = [table2_table(found, _data_text(results))] if with_paper else []
    rows = [table3_table(found, with_paper=with_paper)]
    return [
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


def _marked(part: Section, results: StoredRun, found: Analyses) -> Section:
    """The section with remarks in every table and plot, if its numbers do not cover all images and classes."""
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
    return f"{other} and {base} cannot be told apart, which does not mean that they are equal: {measured}."
