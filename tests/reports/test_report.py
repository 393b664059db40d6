"""The report of a run: what it writes, what it refuses, and what it says of what it lacks."""

import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import CLASS_NAMES, colour_classifier, encoded, picture
from latex_compiler import compile_latex
from nasty_run import CLASSES, FOLDERS, nasty_run, write_pictures
from simulated_runs import decided_run, simulated_scores, stored_run

import ensemble_eval as ee
from ensemble_eval.datasets.items import Dataset, FileItem
from ensemble_eval.datasets.listing import write_listing
from ensemble_eval.datasets.scope import Scope
from ensemble_eval.errors import InputError
from ensemble_eval.paper.published import TABLE_2
from ensemble_eval.reports.api import Report, Results, read_results
from ensemble_eval.reports.gallery import HardImage, gallery, hardest_images
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.class_tables import class_names
from ensemble_eval.results.row_tables import table2_table

pytestmark = pytest.mark.slow
TABLES = {
    *("table2", "table3", "against_base_top5", "against_base_top1", "between_rows_top5", "between_rows_top1"),
    *("one_model", "diversity", "sizes", "subsets", "greedy", "leave_one_out", "calibration", "reliability"),
    *("classes_top5", "classes_top1", "moved_top5", "moved_top1", "confused"),
}
PLOTS = {"rows", "cost", "sizes", "members", "reliability", "classes"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return nasty_run(tmp_path_factory.mktemp("nasty"))


@pytest.fixture(scope="module")
def data(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), results)


@pytest.fixture(scope="module")
def report(results: Results, data: Path) -> Report:
    return results.report(data=data, classes=CLASSES, seed=3)


@pytest.fixture(scope="module")
def found(results: Results) -> Analyses:
    return analyse(results)


class Reader(HTMLParser):
    """What a page holds: words, ids, the addresses that it names, and elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.ids, self.addresses, self.elements = list[str](), list[str](), list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_it_writes_every_table_and_plot(results: Results, report: Report) -> None:
    written = {str(path.relative_to(report.folder)) for path in report.folder.rglob("*") if path.is_file()}
    assert written == {*report.files, "report.json"}
    assert {name.removesuffix(".csv") for name in written if name.endswith(".csv")} == TABLES
    assert {Path(name).stem for name in written if name.endswith(".svg")} == PLOTS
    assert {Path(name).stem for name in written if name.endswith(".png")} == PLOTS
    assert report.page == results.folder / "report" / "report.html"
    assert not report.is_partial
    for name in TABLES:
        assert len(pd.read_csv(report.folder / f"{name}.csv")), name


def test_table3_has_the_numbers_of_the_run(results: Results, report: Report) -> None:
    written = pd.read_csv(report.folder / "table3.csv")
    pd.testing.assert_frame_equal(written, results.table3())
    rows = results.predictions(["member", "crops", "rank"]).query("member == 'ensemble' and crops == 10")
    assert written["top5_wrong"].iloc[-1] == (rows["rank"] >= 5).sum()


def test_numbers_of_the_tables_are_those_of_the_analyses(report: Report, found: Analyses) -> None:
    pairs = pd.read_csv(report.folder / "between_rows_top5.csv")
    expected = found.comparisons[5].between
    assert pairs["fixed"].tolist() == [each.fixed for each in expected]
    assert pairs["difference_low"].tolist() == [round(each.low_points, 4) for each in expected]
    subsets = pd.read_csv(report.folder / "subsets.csv").query("error_of == 'top-5' and crops == 10")
    assert subsets["wrong"].tolist() == found.ensembles[5, 10].wrong.tolist()
    classes = pd.read_csv(report.folder / "classes_top5.csv")
    assert classes["images"].sum() == len(found.decisions.images)
    assert set(classes["class"]) == set(CLASSES)
    assert classes["moved"].is_monotonic_increasing


def test_the_same_results_give_the_same_bytes(
    results: Results, data: Path, report: Report, tmp_path: Path
) -> None:
    again = results.report(tmp_path, data=data, classes=CLASSES, seed=3)
    for name in report.files:
        assert (again.folder / name).read_bytes() == (report.folder / name).read_bytes(), name


def test_the_page_is_one_file_that_names_its_own_parts_and_tables_only(report: Report) -> None:
    page = report.page.read_text("utf-8")
    reader = Reader(page)
    assert reader.elements.count("script") == 1
    others = {address for address in reader.addresses if not address.startswith(("#", "data:"))}
    assert others == {f"{name}.csv" for name in TABLES}
    assert len(reader.ids) == len(set(reader.ids))
    assert {address[1:] for address in reader.addresses if address.startswith("#")} <= set(reader.ids)
    assert "url(http" not in page
    assert len(page) < 3_000_000


def test_names_stand_in_the_page_as_they_are(report: Report) -> None:
    words = set(Reader(report.page.read_text("utf-8")).words)
    assert set(CLASSES) <= words
    assert any(word.startswith(FOLDERS[0]) for word in words)
    text = (report.folder / "plots" / "members.svg").read_text()
    assert ">a</text>" in text


def test_every_picture_has_words_and_every_plot_a_table(report: Report) -> None:
    page = report.page.read_text("utf-8")
    assert len(re.findall(r"<svg [^>]*role=\"img\" aria-label=\"[^\"]{20,}\"", page)) == len(PLOTS)
    assert len(re.findall("The numbers as a table", page)) == len(PLOTS)
    assert page.count("<img ") == page.count(' alt="') > 0


def test_the_gallery_has_the_hardest_images_first(results: Results, report: Report) -> None:
    frame = results.predictions(["image", "member", "crops", "rank"]).query("member == 'ensemble' and crops == 10")
    wrong = frame[frame["rank"] >= 5]
    headings = re.findall(r"<h4>(.*?)</h4>", report.page.read_text("utf-8"))
    assert len(headings) == min(24, len(wrong))
    places = [int(place) - 1 for place in re.findall(r"ranked (\d+)<", report.page.read_text("utf-8"))]
    assert places == sorted(wrong["rank"], reverse=True)[:24]


@pytest.mark.processes
def test_the_tables_for_papers_compile_and_fit_into_a_column(report: Report, tmp_path: Path) -> None:
    tables = [(report.folder / f"{name}.tex").read_text() for name in ("table2", "table3")]
    log = compile_latex(tmp_path, tables)
    assert "Overfull" not in log


def test_table2_places_the_run_by_its_error(found: Analyses) -> None:
    table = table2_table(found, "60 images")
    assert len(table.rows) == len(TABLE_2.rows) + 1
    errors = [row[3] for row in table.rows]
    assert errors == sorted(errors, key=lambda error: -float(str(error)))
    [here] = [row for row in table.rows if row[-1] != "ILSVRC"]
    assert here[-2:] == ("measured here", "60 images")
    assert "means nothing" in table.notes[0]


def test_without_the_papers_figures_none_is_named(results: Results, tmp_path: Path) -> None:
    bare = results.report(tmp_path, paper=False, gallery=False)
    assert "table2.csv" not in bare.files
    assert "paper" not in (bare.folder / "table3.tex").read_text()
    assert "GoogLeNet" not in bare.page.read_text()


def test_an_unfinished_run_is_refused_or_every_table_marked(tmp_path: Path) -> None:
    run = stored_run(tmp_path, simulated_scores(40, 2), of_images=45)
    with pytest.raises(InputError, match=r"5 of 45 images .* or report on what is there with `partial=True`"):
        run.report()
    assert not (tmp_path / "report").exists()
    report = run.report(partial=True)
    assert report.is_partial
    for name in (name for name in report.files if name.endswith(".csv")):
        assert pd.read_csv(report.folder / name)["partial"].all(), name
    for name in ("table3.md", "table3.tex", "table2.md", "table2.tex"):
        assert "Partial: " in (report.folder / name).read_text(), name
    assert "Partial: 5 of 45 images are missing." in report.page.read_text()
    assert json.loads((report.folder / "report.json").read_text())["partial"] is True


def test_a_run_without_scores_says_what_it_lacks_and_which_option_keeps_it(tmp_path: Path) -> None:
    run = stored_run(tmp_path, simulated_scores(40, 2), keeps_scores=False)
    report = run.report(gallery=False)
    assert {"sizes.csv", "subsets.csv", "greedy.csv", "leave_one_out.csv"}.isdisjoint(report.files)
    assert {"calibration.csv", "confused.csv", "classes_top1.csv"} <= set(report.files)
    words = " ".join(Reader(report.page.read_text()).words)
    assert "Ensembles of some of the members need scores, and this run stored none; evaluate with" in words


def test_a_decided_run_reports_its_decisions(tmp_path: Path) -> None:
    full = stored_run(tmp_path / "full", simulated_scores(40, 2))
    report = decided_run(tmp_path / "decided", full, knows_top1=False).report(data=tmp_path)
    assert {"table3.csv", "between_rows_top5.csv", "moved_top5.csv", "diversity.csv"} <= set(report.files)
    assert {"between_rows_top1.csv", "calibration.csv", "confused.csv"}.isdisjoint(report.files)
    words = " ".join(Reader(report.page.read_text()).words)
    for said in (
        "did not store every top-1 decision",
        "Calibration and confused classes",
        "The hardest images are",
    ):
        assert said in words
    assert pd.read_csv(report.folder / "table3.csv")["top1_error"].isna().any()


def test_one_model_with_one_crop_makes_a_report_without_comparisons(tmp_path: Path) -> None:
    scores = simulated_scores(12, 1)
    run = stored_run(tmp_path, scores)
    report = run.report()
    assert "diversity.csv" not in report.files
    assert "so it does not show whether more models help." in report.page.read_text()


KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "one model, one crop": (1, {"crops": 1}),
    "one model": (1, {"crops": 10}),
    "one crop": (3, {"crops": 1}),
    "every rank": (3, {"crops": 10, "surface": True}),
    "every rank, one crop": (2, {"crops": 1, "surface": True}),
    "no scores": (3, {"crops": 10, "store_scores": False}),
    "until decided": (3, {"crops": 10, "until_decided": True}),
    "until decided, top-1 too": (2, {"crops": 10, "until_decided": True, "top1": True}),
    "another protocol": (2, {"protocol": "googlenet-12"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_sentences_are_true_of_every_kind_of_run(kind: str, tmp_path: Path) -> None:
    """Of images one of which cannot be read; each section has a sentence, or names the option that it lacks."""
    members, options = KINDS[kind]
    named = [ee.Member(f"m{n}", predict=colour_classifier(n), fingerprint=f"{n}") for n in range(members)]
    images = [(f"{n:02}.png", n % 7, encoded(picture(60 + n, 50, n))) for n in range(14)]
    ensemble = ee.Ensemble(named, list(CLASS_NAMES))
    dataset = ee.Dataset.of([*images, ("damaged.png", 0, b"damaged")])
    ee.evaluate(ensemble, dataset, out=tmp_path, device="cpu", batch_size=16, **options)
    run = ee.read_results(tmp_path)
    report, table = run.report(gallery=False), run.table3()
    errors = [f"{error:.1f}%" for error in (table["top5_error"].iloc[-1], table["top5_error"].iloc[0])]
    said = " against ".join(errors) if len(table) > 1 else f"top-5 error of {errors[0]} on 14 images"
    assert said in report.findings[0]
    page = report.page.read_text()
    assert "1 more could not be read" in page
    for section in re.findall(r"<section aria-labelledby.*?</section>", page, re.DOTALL):
        answered = 'class="finding"' in section or "All rows compared" in section or "About this run" in section
        assert answered or re.search(r'class="note">[^<]*(<code |gallery)', section), section[:300]
    words = " ".join(Reader(page).words)
    assert not re.search(r"\b(nan|None|inf)\b", words)
    assert ("so it does not show whether more crops help" in words) == (len(run.crops) == 1)
    assert ('evaluate with <code title="In Python: surface=True">--surface</code>.' in page) == (
        "surface" not in options
    )


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results yet"):
        read_results(tmp_path).report()


def test_other_data_is_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`data` is not the data set that was evaluated: .*nowhere"):
        results.report(tmp_path / "report", data=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has none of the images as they were evaluated \(.*cannot be read"):
        results.report(tmp_path / "report", data=tmp_path)
    assert not (tmp_path / "report").exists()


def test_a_picture_that_is_gone_is_said(results: Results, found: Analyses, data: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(data, some)
    hardest = hardest_images(results, found.configurations[-1])
    (some / hardest[0].image).unlink()
    shown, left_out = gallery(results, hardest, some, None)
    assert [each.image for each in shown] == [each.image for each in hardest[1:25]]
    assert (
        left_out[-1] == f"1 pictures are not shown: {hardest[0].image} cannot be read (No such file or directory)."
    )


def test_other_classes_margins_and_folders_are_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`classes` names 2 classes, and the run has 7"):
        results.report(tmp_path, classes=["a", "b"])
    with pytest.raises(InputError, match="`margin` is more than 0"):
        results.report(tmp_path, margin=0)
    with pytest.raises(InputError, match="is the folder of the run itself"):
        results.report(results.folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; choose a folder"):
        results.report(tmp_path / "file")


def test_what_an_earlier_report_wrote_and_this_one_does_not_is_removed(results: Results, tmp_path: Path) -> None:
    for name in ("mine.txt", "surface.csv"):
        (tmp_path / name).write_text("before")
    outside = tmp_path.parent / "outside.txt"
    outside.write_text("kept")
    (tmp_path / "report.json").write_text('{"files": ["surface.csv", "../outside.txt"]}')
    results.report(tmp_path, gallery=False)
    assert not (tmp_path / "surface.csv").exists()
    assert (tmp_path / "mine.txt").exists()
    assert outside.exists()


def test_classes_are_called_by_their_folders_where_that_is_certain() -> None:
    labels = pd.Series([0, 0, 2]).to_numpy()
    assert class_names(None, ["x/ant/1", "x/ant/2", "x/bee/1"], labels, 3) == ["x/ant", "class 1", "x/bee"]
    assert class_names(None, ["ant/1", "bee/2", "bee/1"], labels, 3) is None
    assert class_names(None, ["1", "2", "3"], labels, 3) is None
    assert class_names(["a", "b", "c"], ["1", "2", "3"], labels, 3) == ["a", "b", "c"]


def test_csv_opens_in_pandas_in_one_line(report: Report) -> None:
    frame = pd.read_csv(io.StringIO((report.folder / "against_base_top5.csv").read_text()))
    assert frame["difference"].dtype == float


def test_images_outside_the_data_set_are_not_read(results: Results, data: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((data / results.images[0]).read_bytes())
    hard = HardImage("../secret.png", (0,), 6, ((1, 0.5),))
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match="lies outside the data set"):
        gallery(results, [hard], tmp_path / "root", None)


def test_a_picture_that_was_changed_since_is_not_shown(results: Results, data: Path, tmp_path: Path) -> None:
    image = results.images[0]
    dataset = Dataset("pictures", (FileItem(image, 0, data),))
    folder = tmp_path / "predictions"
    folder.mkdir()
    write_listing(folder, dataset)
    known = replace(results, folder=tmp_path, key=replace(results.key, dataset=dataset.sha256))
    hard = HardImage(image, (0,), 6, ((1, 0.5),))
    shown, left_out = gallery(known, [hard], data, None)
    assert [each.image for each in shown] == [image]
    assert left_out == []
    changed = tmp_path / "changed"
    (changed / image).parent.mkdir(parents=True)
    (changed / image).write_bytes((data / results.images[1]).read_bytes())
    with pytest.raises(InputError, match="is not as it was evaluated"):
        gallery(known, [hard], changed, None)


def test_with_several_labels_every_one_is_named(tmp_path: Path) -> None:
    scores = simulated_scores(40, 2)
    labels = {each.id: [each.label, (each.label + 3) % 7] for each in scores}
    run = stored_run(tmp_path / "run", scores, scope=Scope(several_labels=True), labels=labels)
    write_pictures(tmp_path / "data", run)
    page = run.report(data=tmp_path / "data").page.read_text()
    assert "An image with several labels is listed under each of them." in page
    hardest = hardest_images(run, analyse(run).configurations[-1])
    assert hardest[0].labels == tuple(labels[hardest[0].image])
    first, second = (f"class {label}" for label in hardest[0].labels)
    assert f"Labels: <strong>{first}, {second}</strong>, the best of them ranked {hardest[0].rank + 1}<" in page


def test_the_page_has_the_first_60_rows_of_a_table_and_its_file_all(report: Report) -> None:
    rows = len(pd.read_csv(report.folder / "reliability.csv"))
    assert rows > 60
    assert f"The first 60 of {rows} rows; reliability.csv has all of them." in report.page.read_text("utf-8")


@pytest.mark.processes
def test_a_report_says_everywhere_what_is_counted_where_that_is_not_the_usual(tmp_path: Path) -> None:
    scope = Scope(part="the first 40 of 90 images", counted_classes=(0, 1, 2, 4, 5, 6))
    phrases = "the first 40 of 90 images; labels are ranked among the data set's 6 classes only"
    report = stored_run(tmp_path / "run", simulated_scores(40, 3), scope=scope).report(tmp_path / "report")
    assert report.findings[0] == f"Counted: {phrases}."
    for name in report.files:
        path = report.folder / name
        if name.endswith(".csv"):
            assert set(pd.read_csv(path)["counted"]) == {phrases}, name
        elif not name.endswith((".png", ".bib")):
            words = " ".join(re.sub(r"</text>\s*<text[^>]*>|<[^>]*>", " ", path.read_text()).split())
            assert f"Counted: {phrases}." in words.replace("&#39;", "'").replace("&apos;", "'"), name
    page = report.page.read_text()
    assert page.count("Counted: the first 40") >= len(TABLES - {"calibration"}) + 5
    for name in ("table2.md", "table2.tex", "table3.md", "table3.tex"):
        words = re.sub(r"[\s\\]+", " ", (report.folder / name).read_text())
        assert "(not comparable)" in words, name
        assert "they are not comparable." in words, name
    log = compile_latex(tmp_path, [(report.folder / f"{name}.tex").read_text() for name in ("table2", "table3")])
    assert "Overfull" not in log


def test_a_usual_run_has_no_such_marks(report: Report) -> None:
    for name in report.files:
        assert b"not comparable" not in (report.folder / name).read_bytes(), name
        assert b"Counted" not in (report.folder / name).read_bytes(), name


def test_a_whole_data_set_of_some_classes_is_no_usual_run(tmp_path: Path) -> None:
    few = [each for each in simulated_scores(60, 2) if each.label in (1, 4, 6)]
    assert analyse(stored_run(tmp_path / "whole", few)).counted == (
        "labels are of 3 classes, and are ranked among all 7",
    )
    unfinished = stored_run(tmp_path / "unfinished", few, of_images=len(few) + 1)
    assert analyse(unfinished, partial=True).counted == ()


def test_no_name_of_a_class_member_or_image_begins_a_formula_in_csv(tmp_path: Path) -> None:
    scores = [
        replace(each, id=f"{'=+-@'[place % 4]}cmd()!{each.id}")
        for place, each in enumerate(simulated_scores(40, 2))
    ]

    report = stored_run(tmp_path, scores, names=("=a()", "@b")).report(classes=[f"={each}" for each in CLASSES])
    for name in report.files:
        if name.endswith(".csv"):
            for cell in pd.read_csv(report.folder / name, dtype=str, keep_default_na=False).to_numpy().ravel():
                assert not re.match(r"[=@+\t\r]|-(?![\d.])", cell), (name, cell)
    assert pd.read_csv(report.folder / "diversity.csv")["one"][0] == "'=a()"
