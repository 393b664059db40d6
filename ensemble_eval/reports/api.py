"""`read_results` of the public API: the results of a run, with their tables and their report."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ensemble_eval.errors import InputError, UnavailableError
from ensemble_eval.files import write_atomically
from ensemble_eval.locations import location
from ensemble_eval.reports.gallery import gallery, hardest_images
from ensemble_eval.reports.methods import BIBLIOGRAPHY, methods_text
from ensemble_eval.reports.page import GalleryImage, Page, page_html, report_page, sentence
from ensemble_eval.reports.plots import calibration_plots, members_plot, surface_plot, table3_plot
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.class_tables import ClassNames, class_names
from ensemble_eval.results.compare import compare_errors, run_differences_table
from ensemble_eval.results.crop_study import CropStudy, read_crop_study
from ensemble_eval.results.label_sets import label_table
from ensemble_eval.results.reading import StoredRun, read_clusters, read_run
from ensemble_eval.results.row_tables import NOT_COMPARABLE, with_daggers
from ensemble_eval.results.scores import computed_ranks, schemes_of, selections_of
from ensemble_eval.scoring.paired import MARGIN_POINTS
from ensemble_eval.scoring.table3 import Configuration, table3, table3_table
from ensemble_eval.store.record import refuse_file
from ensemble_eval.tables.formats import Displayed, table_csv, table_latex, table_markdown
from ensemble_eval.tables.table import marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAGE_FILE = "report.html"
# Lists the files, so that the next report can remove those that it does not write.
_FILES_FILE = "report.json"
# The tables that are Markdown and LaTeX too, with the columns that fit into a column of text.
_LATEX_COLUMNS = {
    "table3": (
        *("models", "crops", "cost", "top5_error", "verdict", "top5", "compared_to_base", "paired", "adjusted_p"),
        *("paper_top5_error", "paper_compared_to_base"),
    ),
    "table2": ("team", "year", "place", "top5_error", "source"),
}


@dataclass(frozen=True, repr=False)
class Report(Displayed):
    """A report that was written.

    Attributes:
        folder: Its folder.
        page: Its page, `report.html`.
        files: All files, relative to the folder.
        findings: Sentences with the conclusions that the numbers allow.
        left_out: Sentences on missing contents, with the reason.
        is_partial: Whether images are missing.
    """

    folder: Path
    page: Path
    files: tuple[str, ...] = field(repr=False)
    findings: tuple[str, ...] = field(repr=False)
    left_out: tuple[str, ...] = field(repr=False)
    is_partial: bool


def read_results(folder: str | Path) -> "Results":
    """Read the results of a run, finished or not, from its output folder.

    Every byte of the stored parts is compared with its checksum. Nothing in the folder changes, and the run may be
    working in it.

    Args:
        folder: The output folder of a run.

    Raises:
        InputError: The folder has no results, or its files do not belong to one run.

    Example:
        Three members that classify colours, the last one the wrong way round, on two pictures:

        >>> import io, tempfile, torch, ensemble_eval as ee
        >>> from PIL import Image
        >>> def member(name, factor):
        ...     def predict(crop_batch):
        ...         return torch.softmax(factor * crop_batch.float().mean((2, 3)) / 255, dim=1)
        ...     return ee.Member(name, predict=predict, fingerprint=f"{factor}")
        >>> def picture(colour):
        ...     Image.new("RGB", (60, 40), colour).save(file := io.BytesIO(), "PNG")
        ...     return file.getvalue()
        >>> ensemble = ee.Ensemble([member("a", 1), member("b", 2), member("c", -1)], ["red", "lime", "blue"])
        >>> images = [("1.png", 0, picture("red")), ("2.png", 2, picture("blue"))]
        >>> out = tempfile.mkdtemp()
        >>> outcome = ee.evaluate(ensemble, images, crops=10, out=out, device="cpu")

        Read the results from the folder:

        >>> results = ee.read_results(out)
        >>> results.complete, results.members, results.crops, results.images
        (True, ('a', 'b', 'c'), (1, 10), ('1.png', '2.png'))
        >>> results.predictions(["image", "member", "crops", "rank"]).query("crops == 10 and member == 'c'")
            image member  crops  rank
        6   1.png      c     10     2
        14  2.png      c     10     2
        >>> results.table3(models=[["c"], ["a", "b"]], crops=10)[["members", "crops", "top1_wrong"]]
          members  crops  top1_wrong
        0    (c,)     10           2
        1  (a, b)     10           0
    """
    return Results(**vars(read_run(folder)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Results(StoredRun):
    """The results of a run at the time when `read_results` read its folder."""

    def table3(
        self,
        models: int | Sequence[int | Sequence[str]] | None = None,
        crops: int | Sequence[int] | None = None,
        *,
        partial: bool = False,
    ) -> pd.DataFrame:
        """Table 3 for any members and schemes: the columns of `table3.csv`, numbers rounded as there.

        Without arguments the rows are those of `table3.csv`. A row for one model uses the member with the lowest
        one-crop top-1 error, and every row is compared with that member with one crop. Rows for some of the
        members are computed from the stored scores. These are float32, so two classes whose mean scores agree to
        seven digits may have another order than in a run of these members alone.

        Args:
            models: A number of members: 1, all, or the first ones in the order of the ensemble; or several
                numbers. Instead of a number, the names of any members; then a column `members` names those of each
                row.
            crops: The schemes; None for all.
            partial: Accept an unfinished run. A column `partial` and `attrs["partial"]` of the frame say whether
                images are missing.

        Returns:
            Rows with models ascending, then in the order of `models`, then crops ascending.

        Raises:
            InputError: Images are missing, no image could be read, there is no such member or scheme, or the run
                stored no scores for the rows of some of the members.

        Example:
            `table3(models=[1, 3, 7])`, `table3(models=7, crops=144)`, `table3(models=[["a", "c"], ["b", "c"]])`
        """
        self.require_table(partial=partial)
        schemes = schemes_of(crops, self.crops)
        decisions = self.decisions(with_answers=False)
        selections = selections_of(models, self.members, decisions.one_model_member)
        if computed := [each for each in selections if each.is_computed]:
            for each, ranks in zip(computed, computed_ranks(self, computed), strict=True):
                decisions = decisions.with_ensemble(each.label, ranks)
        asked = [Configuration(len(each.members), scheme, each.label) for each in selections for scheme in schemes]
        # The numbers are those that anyone reads from `table3.csv`.
        frame = pd.read_csv(io.StringIO(table_csv(table3_table(table3(decisions, asked)))))
        if any(each.by_name for each in selections):
            frame["members"] = [each.members for each in selections for _ in schemes]
        if partial:
            frame["partial"] = frame.attrs["partial"] = not self.complete
        return frame

    def crop_study(self) -> CropStudy:
        """The decisions with other numbers of models and crops, other crops and other averages.

        Raises:
            InputError: The run stored no ranks for them.

        Example:
            `results.crop_study().surface()`
        """
        return read_crop_study(self)

    def compare(
        self,
        *others: "StoredRun",
        margin: float = MARGIN_POINTS,
        seed: int = 0,
        across_protocols: bool = False,
        cluster: str | Path | None = None,
    ) -> pd.DataFrame:
        """Compare the rows of Table 3 of other runs over the same images with those of this run, image by image.

        Args:
            others: The results of the other runs.
            margin: Two errors that differ by less count as equal, in percentage points.
            seed: The seed of the bootstrap.
            across_protocols: Accept runs of other multi-crop protocols.
            cluster: As in `report`.

        Returns:
            A row for each run, number of models and scheme, first for top-5 errors and then for top-1 errors.
            `run` is 2 for the first of `others`. A negative `difference` is better.

        Raises:
            InputError: A run is unfinished, or the runs differ in images, labels, classes or protocols; or a
                package of the extra `[report]` is not installed.

        Example:
            `results.compare(ee.read_results("other-results"))[["models", "crops", "difference", "verdict"]]`
        """
        found = compare_errors(
            [self, *others],
            margin_points=margin,
            seed=seed,
            across_protocols=across_protocols,
            clusters=read_clusters(cluster, self),
        )
        tables = {f"top-{k}": run_differences_table(k, each, margin) for k, each in found.differences.items()}
        frames = {name: pd.read_csv(io.StringIO(table_csv(table))) for name, table in tables.items()}
        return pd.concat(frames, names=["error_of"]).reset_index(level=0).reset_index(drop=True)

    def plot_table3(self, axes: "Axes | None" = None, *, paper: bool = True, partial: bool = False) -> "Axes":
        """Draw the top-5 error of each row of Table 3 with its interval, and the published errors.

        All `plot_` methods need the extra `[report]`, and draw on a new figure if `axes` is None.

        Args:
            axes: Axes of matplotlib to draw on.
            paper: Whether to draw the published errors.
            partial: Accept an unfinished run.
        """
        self.require_table(partial=partial)
        decisions = self.decisions(with_answers=False)
        published = self.key.published(decisions.one_model_member) if paper else None
        comparable = NOT_COMPARABLE if self.counted(decisions) else ""
        return table3_plot(table3(decisions), published, comparable).on(axes)

    def plot_surface(self, axes: "Axes | None" = None, *, partial: bool = False) -> "Axes":
        """Draw the top-5 error for every number of models and crops, for a run with `surface=True`."""
        self.require_table(partial=partial)
        errors = self.crop_study().error_percent()
        return surface_plot(errors, table3(self.decisions(with_answers=False))).on(axes)

    def plot_members(self, axes: "Axes | None" = None, *, partial: bool = False) -> "Axes":
        """Draw the error of each member alone, and that of the ensemble without it if the run stored scores."""
        self.require_table(partial=partial)
        return members_plot(self._analyses).on(axes)

    def plot_calibration(self, axes: "Axes | None" = None, *, partial: bool = False) -> "Axes":
        """Draw accuracy against confidence, in the first and the last row of Table 3.

        Raises:
            InputError: The run stopped when decided, so it has no confidences.
        """
        self.require_table(partial=partial)
        if why := self._analyses.unavailable.get("calibration"):
            raise UnavailableError(why)
        [plot] = calibration_plots(self._analyses)
        return plot.on(axes)

    @cached_property
    def _analyses(self) -> Analyses:
        """The analyses for plots, which read all scores."""
        return analyse(self, partial=True)

    def report(
        self,
        out: str | Path | None = None,
        *,
        margin: float = 0.5,
        partial: bool = False,
        data: str | Path | None = None,
        classes: str | Path | Sequence[str] | None = None,
        gallery: bool = True,
        paper: bool = True,
        seed: int = 0,
        cluster: str | Path | None = None,
        recipe: Sequence[str] = (),
        labels: Sequence[str | Path] = (),
        blacklist: str | Path | None = None,
    ) -> Report:
        """Write tables, plots and a page about this run, as `ensemble-eval report` does.

        `table3.csv`, `table3.md` and `table3.tex` are Table 3 with its intervals; `report.html` is one page with
        everything; every further table is a CSV file, and every plot an SVG and a PNG file below `plots/`.

        Args:
            out: The folder for the report; None for `report` in the folder of the run.
            margin: Two errors that differ by less count as equal, in percentage points.
            partial: Accept an unfinished run, and mark every table.
            data: The data set that was evaluated, for a gallery of the hardest images.
            classes: "imagenet-1k", the names of the classes in index order, or a text file of them. None for the
                names of the class folders of the images, if there are any.
            gallery: Whether to add a gallery.
            paper: Whether to show the figures of the paper beside the run, and its place in Table 2.
            seed: The seed of the bootstrap, and of the split of images into folds.
            cluster: A CSV with the header `image,group`. Images of a group are dependent, such as near-duplicates
                or the frames of a video, and intervals and tests respect that.
            recipe: The names of members that one recipe trained, for an interval over members.
            labels, blacklist: Other files of labels, and a blacklist, for a table of the errors under them.

        Raises:
            InputError: Images are missing, there are none, `data` or `classes` are not those of the run, or a
                package of the extra `[report]` is not installed.

        Example:
            `ee.read_results("results").report(data="val").page`
        """
        out = self.folder / "report" if out is None else location(out)
        if out.resolve() == self.folder.resolve():
            raise InputError(f"`out` {out} is the folder of the run itself; choose one inside it or elsewhere")
        refuse_file(out)
        clusters = read_clusters(cluster, self)
        found = _analysed(self, partial=partial, margin_points=margin, seed=seed, clusters=clusters, recipe=recipe)
        images, classes_of = found.decisions.each_label
        names = class_names(classes, [self.images[each] for each in images], classes_of, self.key.classes)
        pictures, without_pictures = _pictures(self, found, names, data, with_gallery=gallery)
        left_out = {"classes": without_pictures}
        try:
            study = replace(self.crop_study(), clusters=clusters)
        except UnavailableError as error:
            study, left_out["crops"] = None, [sentence(error)]
        more = []
        if labels or blacklist is not None:
            blacklist = None if blacklist is None else location(blacklist)
            try:
                more = [label_table(self, found, [*map(location, labels)], names, blacklist)]
            except UnavailableError as error:
                left_out["comparisons"] = [sentence(error)]
        page = report_page(self, found, study, names, pictures, left_out, more, with_paper=paper)
        files = dict(_files(page, self, found))
        _remove_earlier(out, files)
        for name, content in files.items():
            write_atomically(out / name, content)
        is_partial = found.missing > 0
        listed = {"files": sorted(files), "partial": is_partial, "margin_points": margin, "seed": seed}
        write_atomically(out / _FILES_FILE, f"{json.dumps(listed, indent=2)}\n".encode())
        return Report(out, out / _PAGE_FILE, tuple(files), page.findings, page.left_out, is_partial)


def _files(page: Page, results: StoredRun, found: Analyses) -> Iterator[tuple[str, bytes]]:
    """The name and content of every file. The page is last, so that all files exist if the page does."""
    for table in (table for section in page.sections for table in section.tables):
        # The CSV of Table 3 is that of the run, with the table's marks.
        of_run = marked(table3_table(table3(found.decisions)), table.marks) if table.name == "table3" else table
        yield f"{table.name}.csv", table_csv(of_run).encode()
        if narrow := _LATEX_COLUMNS.get(table.name):
            yield f"{table.name}.md", table_markdown(table).encode()
            known = {column.key for column in table.columns}
            # Differences of published errors that are not comparable are not worth the width of their heading.
            known -= {"paper_compared_to_base"} if found.counted else set()
            columns = [key for key in narrow if key in known]
            yield f"{table.name}.tex", table_latex(with_daggers(table.only(*columns))).encode()
    for picture in (picture for section in (page.summary, *page.sections) for picture in section.pictures):
        yield f"plots/{picture.plot.name}.svg", picture.svg.encode()
        yield f"plots/{picture.plot.name}.png", picture.png
    yield "methods.txt", methods_text(results, found).encode()
    yield BIBLIOGRAPHY.name, BIBLIOGRAPHY.read_bytes()
    yield _PAGE_FILE, page_html(page).encode()


def _analysed(results: StoredRun, *, partial: bool, **options: Any) -> Analyses:
    try:
        results.require_table(partial=partial)
    except InputError as error:
        # Without images or labels, `partial=True` would not help.
        if not results.images or not results.key.scope.labelled:
            raise
        raise InputError(f"{error}, or report on what is there with `partial=True`") from error
    return analyse(results, partial=partial, **options)


def _pictures(
    results: StoredRun, found: Analyses, names: ClassNames, data: str | Path | None, *, with_gallery: bool
) -> tuple[list[GalleryImage], list[str]]:
    """The gallery, and sentences on missing pictures."""
    if not with_gallery:
        return [], ["The gallery of the hardest images was not asked for."]
    try:
        hardest = hardest_images(results, found.configurations[-1])
    except UnavailableError as error:
        return [], [sentence(error)]
    if not hardest:
        return [], ["The last row has no image wrong in top-5, so there is no gallery."]
    if data is None:
        return [], ["The gallery of the hardest images needs the data set; name it with `data`."]
    return gallery(results, hardest, location(data), names)


def _remove_earlier(out: Path, files: Mapping[str, bytes]) -> None:
    """Remove files of an earlier report that this one does not write."""
    try:
        earlier = json.loads((out / _FILES_FILE).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in earlier:
        path = out / str(name)
        if name not in files and out.resolve() in path.resolve().parents:
            path.unlink(missing_ok=True)
