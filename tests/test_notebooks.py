"""Objects in a notebook: one line as text, a table as HTML; plots on axes; runs compared in a frame."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from builders import CLASS_NAMES, colour_classifier
from matplotlib.axes import Axes
from simulated_runs import decided_run, simulated_scores, stored_run

import ensemble_eval as ee
from ensemble_eval.datasets.items import FileItem
from ensemble_eval.errors import InputError
from ensemble_eval.results.compare import compare_errors
from ensemble_eval.scoring.table3 import Row

IMAGES = 200
# For any number of images, members and classes.
LONGEST_LINE = 600


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ee.Results:
    return stored_run(tmp_path_factory.mktemp("run"), simulated_scores(IMAGES, 3))


@pytest.fixture(autouse=True)
def _no_figure_is_left() -> Iterator[None]:
    yield
    plt.close("all")


def objects(results: ee.Results) -> dict[str, object]:
    """An object of every class of the public API, the large ones as large as with ImageNet."""
    members = [ee.Member(f"m{n}", predict=colour_classifier(n), fingerprint=f"{n}") for n in range(7)]
    items = tuple(FileItem(f"{n:08}.JPEG", n % 1000, Path("val")) for n in range(50_000))
    row = Row(7, 144, 1008, 6.5, -3.5, None, 65, None, 1000, 5.9, 7.4)
    unreadable = {f"{n}.png": "damaged <jpeg>" for n in range(1000)}
    return {
        "Dataset": ee.Dataset("val", items, tuple(f"class {n}" for n in range(1000))),
        "Ensemble": ee.Ensemble(members, [f"class {n}" for n in range(1000)]),
        "EnsembleEvalError": ee.EnsembleEvalError("a <part> is damaged"),
        "InputError": ee.InputError("there are no images"),
        "InputFormat": ee.InputFormat.imagenet(),
        "Member": members[0],
        "Outcome": ee.Outcome([row], None, "m0", unreadable, 10, 0, Path("out/table3.csv")),
        "Results": results,
    }


def test_every_object_is_one_line_of_text_and_a_table_in_html(results: ee.Results) -> None:
    shown = objects(results)
    assert set(shown) == {name for name in ee.__all__ if isinstance(getattr(ee, name), type)}
    for name, value in shown.items():
        assert "\n" not in repr(value), name
        assert repr(value).startswith(f"{name}("), name
        assert len(repr(value)) < LONGEST_LINE, name
        html = value._repr_html_()  # type: ignore[attr-defined]  # all of them have it
        assert name in html
        assert "<part>" not in html


@pytest.mark.parametrize("images", [20, IMAGES])
def test_what_results_show_does_not_grow_with_the_images(tmp_path: Path, images: int) -> None:
    run = stored_run(tmp_path / "run", simulated_scores(images, 3))
    assert repr(run) == (
        f"Results(folder='{tmp_path / 'run'}', members=('a', 'b', 'c'), crops=(1, 10), protocol='googlenet', "
        f"images={images}, unreadable=0, missing=0)"
    )
    assert len(run._repr_html_()) < 4000
    assert f"Table 3: errors on {images} images" in run._repr_html_()


def test_the_text_of_members_data_sets_and_scores() -> None:
    member = ee.Member("a", predict=colour_classifier(0), fingerprint="x")
    assert repr(member).startswith("Member(name='a', arch='predict', fingerprint='x', input=InputFormat(")
    ensemble = ee.Ensemble([member], list(CLASS_NAMES))
    assert repr(ensemble).startswith(f"Ensemble(name='ensemble', members=['a'], classes={len(CLASS_NAMES)}, ")
    assert (
        repr(ee.Dataset.of([("a.png", 0, b"")])) == "Dataset(source='memory', images=1, layout='images in memory')"
    )
    [scores] = simulated_scores(1, 2)
    assert repr(scores) == f"ImageScores(id='000.png', label={scores.label}, crops=(1, 10), members=2, classes=7)"


def test_results_without_labels_or_images_show_what_they_know(results: ee.Results) -> None:
    unlabelled = replace(results, key=replace(results.key, scope=replace(results.key.scope, labelled=False)))
    for run in (unlabelled, replace(results, images=())):
        assert "Table 3" not in run._repr_html_()
        assert "<td>" in run._repr_html_()


def test_an_unfinished_run_says_so_where_it_is_shown(tmp_path: Path) -> None:
    run = stored_run(tmp_path, simulated_scores(20, 2), of_images=25)
    assert "missing=5" in repr(run)
    assert "Partial: Table 3" in run._repr_html_()
    with pytest.raises(InputError, match="5 of 25 images"):
        run.plot_table3()
    assert isinstance(run.plot_members(partial=True), Axes)


def test_plots_are_drawn_on_new_axes_or_on_given_ones(results: ee.Results) -> None:
    methods = (results.plot_table3, results.plot_members, results.plot_calibration)
    for method in methods:
        axes = method()
        assert axes.figure in [plt.figure(number) for number in plt.get_fignums()]
    figure, given = plt.subplots(1, len(methods))
    for method, axes in zip(methods, given, strict=True):
        assert method(axes) is axes
    assert figure.axes == list(given)


def is_drawn(axes: Axes, expected: list[float]) -> bool:
    """Whether these are the horizontal positions of one series of marks."""
    found = [np.asarray(line.get_xdata(), float) for line in axes.lines]
    return any(len(each) == len(expected) and np.allclose(each, expected, atol=1e-4) for each in found)


def test_plots_show_the_numbers_of_the_run(results: ee.Results) -> None:
    table = results.table3()
    assert is_drawn(results.plot_table3(), table["top5_error"].to_list())
    labels = [text.get_text() for text in results.plot_table3().get_yticklabels()]
    assert labels == ["1×1", "1×10", "3×1", "3×10"]
    assert len(results.plot_table3(paper=False).containers) == 1
    alone = [results.table3(models=[[name]], crops=10)["top5_error"].iloc[0] for name in "abc"]
    assert is_drawn(results.plot_members(), alone)


def test_what_a_run_did_not_store_is_not_drawn_and_the_message_names_the_option(
    results: ee.Results, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="evaluate with `surface=True`"):
        results.plot_surface()
    decided = decided_run(tmp_path / "decided", results, knows_top1=False)
    with pytest.raises(InputError, match="evaluate without `until_decided=True`"):
        decided.plot_calibration()
    assert decided.plot_members().get_legend_handles_labels()[1] == ["whole ensemble", "member alone"]
    single = stored_run(tmp_path / "single", simulated_scores(20, 1))
    assert len(single.plot_members().get_yticklabels()) == 1


def test_runs_are_compared_as_the_command_compares_them(results: ee.Results, tmp_path: Path) -> None:
    other = stored_run(
        tmp_path,
        [
            replace(each, mean_softmax={crops: scores[::-1] for crops, scores in each.mean_softmax.items()})
            for each in simulated_scores(IMAGES, 3)
        ],
    )
    frame, found = results.compare(other, margin=2), compare_errors([results, other], margin_points=2)
    expected = [each.paired for k in (5, 1) for each in found.differences[k]]
    assert frame["fixed"].tolist() == [each.fixed for each in expected]
    assert frame["verdict"].tolist() == [each.verdict_text for each in expected]
    assert frame["error_of"].tolist() == ["top-5"] * 4 + ["top-1"] * 4
    assert set(frame["run"]) == {2}
    with pytest.raises(InputError, match="two or more"):
        results.compare()
