"""The report of a run as files: tables, plots, and one page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.files import write_atomically
from ensemble_eval.reports.contents import Contents, contents
from ensemble_eval.reports.gallery import gallery, hardest_images
from ensemble_eval.reports.html import GalleryImage, page_html
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.class_tables import ClassNames, class_names
from ensemble_eval.results.crop_study import CropStudy, read_crop_study
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.table3 import table3, table3_table
from ensemble_eval.tables.formats import table_csv, table_latex, table_markdown
from ensemble_eval.tables.table import Table, marked

REPORT_FOLDER, PAGE_FILE = "report", "report.html"
# Names the files, so that the next report can remove what it does not write any more.
_FILES_FILE = "report.json"
# What of Table 3 fits into a column of text.
_LATEX_COLUMNS = ("models", "crops", "cost", "top5_error", "top5", "compared_to_base", "paired", "adjusted_p")
_LATEX_PAPER_COLUMNS = ("paper_top5_error", "paper_compared_to_base")


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: where.
        page: its page, `report.html`.
        files: all files, relative to the folder.
        claims: sentences on what the numbers allow to say.
        left_out: sentences on what is not there, and why.
        is_partial: whether images are missing.
    """

    folder: Path
    page: Path
    files: tuple[str, ...] = field(repr=False)
    claims: tuple[str, ...] = field(repr=False)
    left_out: tuple[str, ...] = field(repr=False)
    is_partial: bool


def write_report(
    results: StoredRun,
    out: Path | None,
    *,
    margin: float,
    partial: bool,
    data: Path | None,
    classes: str | Path | Sequence[str] | None,
    with_gallery: bool,
    with_paper: bool,
    seed: int,
) -> Report:
    """Write a report; see `Results.report`."""
    out = results.folder / REPORT_FOLDER if out is None else out
    _refuse_folder(results, out)
    found = _analysed(results, margin=margin, partial=partial, seed=seed)
    images, labels = found.decisions.each_label
    names = class_names(classes, [results.images[each] for each in images], labels, results.key.classes)
    pictures, left_out = _pictures(results, found, names, data, with_gallery=with_gallery)
    study, why_none = _crop_study(results)
    everything = contents(results, found, study, names, pictures, [*why_none, *left_out], with_paper=with_paper)
    files = dict(_files(everything, found, with_paper=with_paper))
    _remove_earlier(out, files)
    for name, content in files.items():
        write_atomically(out / name, content)
    listed = {"files": sorted(files), "partial": found.is_partial, "margin_points": margin, "seed": seed}
    write_atomically(out / _FILES_FILE, f"{json.dumps(listed, indent=2)}\n".encode())
    page = everything.page
    return Report(out, out / PAGE_FILE, tuple(files), page.claims, page.left_out, found.is_partial)


def table3_files(found: Analyses, table: Table, *, with_paper: bool) -> Iterator[tuple[str, bytes]]:
    """Table 3 in all formats: the CSV is that of the run, with the table's marks.

    Args:
        found: of a run.
        table: of `table3_table`, marked.
        with_paper: whether the table has what the paper prints.
    """
    yield "table3.csv", table_csv(marked(table3_table(table3(found.decisions)), table.marks)).encode()
    yield "table3.md", table_markdown(table).encode()
    shown = (*_LATEX_COLUMNS, *(_LATEX_PAPER_COLUMNS if with_paper else ()))
    yield "table3.tex", table_latex(table.only(*shown)).encode()


def _files(everything: Contents, found: Analyses, *, with_paper: bool) -> Iterator[tuple[str, bytes]]:
    """Every file's name and content, the page last: where it is, the others are too."""
    for table in everything.tables:
        if table.name == "table3":
            yield from table3_files(found, table, with_paper=with_paper)
            continue
        yield f"{table.name}.csv", table_csv(table).encode()
        if table.name == "table2":
            yield "table2.md", table_markdown(table).encode()
            yield "table2.tex", table_latex(table.only("team", "year", "place", "top5_error", "source")).encode()
    for plot in everything.plots:
        yield f"plots/{plot.name}.svg", plot.svg.encode()
        yield f"plots/{plot.name}.png", plot.png
    yield PAGE_FILE, page_html(everything.page).encode()


def _analysed(results: StoredRun, *, margin: float, partial: bool, seed: int) -> Analyses:
    try:
        results.require_table(partial=partial)
    except InputError as error:
        # Where there is no table of what is there either, that would be no advice.
        if not results.images or not results.key.scope.labelled:
            raise
        raise InputError(f"{error}, or report on what is there with `partial=True`") from error
    return analyse(results, partial=partial, margin_points=margin, seed=seed)


def _crop_study(results: StoredRun) -> tuple[CropStudy | None, list[str]]:
    """What a run that kept every rank says of other crops, or why there is none."""
    try:
        return read_crop_study(results), []
    except UnavailableError as error:
        return None, [_sentence(error)]


def _sentence(error: UnavailableError) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."


def _pictures(
    results: StoredRun, found: Analyses, names: ClassNames, data: Path | None, *, with_gallery: bool
) -> tuple[list[GalleryImage], list[str]]:
    """The gallery, and sentences on what it lacks."""
    if not with_gallery:
        return [], ["The gallery of the hardest images was not asked for."]
    try:
        hardest = hardest_images(results, found.configurations[-1])
    except UnavailableError as error:
        return [], [_sentence(error)]
    if not hardest:
        return [], ["The last row has no image wrong in top-5, so there is no gallery."]
    if data is None:
        return [], ["The gallery of the hardest images needs the data set; name it with `data`."]
    return gallery(results, hardest, data, names)


def _refuse_folder(results: StoredRun, out: Path) -> None:
    if out.resolve() == results.folder.resolve():
        raise InputError(f"`out` {out} is the folder of the run itself; choose one inside it or elsewhere")
    if out.exists() and not out.is_dir():
        raise InputError(f"`out` {out} is a file; choose a folder")


def _remove_earlier(out: Path, files: Mapping[str, bytes]) -> None:
    """Remove what an earlier report wrote here and this one does not."""
    try:
        earlier = json.loads((out / _FILES_FILE).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in earlier:
        path = out / str(name)
        if name not in files and out.resolve() in path.resolve().parents:
            path.unlink(missing_ok=True)
