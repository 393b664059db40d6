"""Runs whose images are in clusters: the file of clusters, and what analyses, tables and commands make of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.errors import InputError
from ensemble_eval.reports.api import Results
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.reading import read_clusters
from ensemble_eval.scoring.table3 import gain, table3

IMAGES = 40


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return stored_run(tmp_path_factory.mktemp("single"), simulated_scores(IMAGES, 3))


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same images, each of them twice."""
    scores = simulated_scores(IMAGES, 3)
    twice = [replace(each, id=f"{copy}{each.id}") for copy in "ab" for each in scores]
    return stored_run(tmp_path_factory.mktemp("doubled"), twice)


@pytest.fixture(scope="module")
def file(doubled: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "clusters.csv"
    path.write_text("image,group\n" + "".join(f"{image},{image[1:]}\n" for image in doubled.images))
    return path


@pytest.fixture(scope="module")
def found(doubled: Results, file: Path) -> Analyses:
    return analyse(doubled, clusters=read_clusters(file, doubled))


def test_images_that_are_there_twice_change_no_p_value(single: Results, found: Analyses) -> None:
    expected = analyse(single)
    assert found.clusters == IMAGES
    for k in (5, 1):
        for one, two in zip(expected.comparisons[k].between, found.comparisons[k].between, strict=True):
            assert two.fixed == 2 * one.fixed
            assert (two.mcnemar_p, two.adjusted_p) == pytest.approx((one.mcnemar_p, one.adjusted_p))
        assert [each.p for each in found.classes.errors[k]] == pytest.approx(
            [each.p for each in expected.classes.errors[k]]
        )
        for one, two in zip(
            expected.ensembles[k, 10].leave_one_out, found.ensembles[k, 10].leave_one_out, strict=True
        ):
            assert two.adjusted_p == pytest.approx(one.adjusted_p)


def test_intervals_are_as_wide_as_those_of_half_the_images_or_wider(single: Results, found: Analyses) -> None:
    alone, twice = single.decisions(), found.decisions
    for one, two in zip(table3(alone), table3(twice), strict=True):
        assert two.top5_error == one.top5_error
        assert two.top5_high - two.top5_low >= 0.99 * (one.top5_high - one.top5_low)
    assert gain(twice).high - gain(twice).low >= 0.99 * (gain(alone).high - gain(alone).low)
    for compared in found.comparisons[1].between:
        assert compared.design_effect >= 2
        assert compared.bootstrap_points is None


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ("a000.png,0\n", r"has no group for 79 images of the run \(a001.png, a002.png, a003.png, …\); add them"),
        ("ALL,0\n", "puts all images into one group; intervals need two or more"),
        ("ALL,\n", r"has no group for 80 images"),
        ("EACH\nelse.png,0\n", r"has 1 images that the run does not have \(else.png\); remove them"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_refused(
    doubled: Results, tmp_path: Path, lines: str, refusal: str
) -> None:
    path = tmp_path / "clusters.csv"
    for word, group in (("ALL,0", "0"), ("ALL,", ""), ("EACH", None)):
        every = "\n".join(f"{image},{image if group is None else group}" for image in doubled.images)
        lines = lines.replace(word, every, 1) if lines.startswith(word) else lines
    path.write_text(f"image,group\n{lines}")
    with pytest.raises(InputError, match=refusal):
        read_clusters(path, doubled)


@pytest.mark.slow
def test_the_report_and_the_comparison_say_that_they_respect_clusters(
    doubled: Results, file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "report"
    assert cli("report", doubled.folder, "--cluster", file, "--recipe", "a,c", "--out", out).code == 0
    table = (out / "table3.csv").read_text().splitlines()
    assert table[0].endswith(",clusters")
    assert table[1].endswith(f",{IMAGES}")
    assert "treat the images of a cluster as dependent (40 clusters)" in (out / "report.html").read_text()
    header = "error_of,crops,members,mean_error,deviation,mean_low,mean_high,next_low,next_high"
    assert (out / "recipe.csv").read_text().startswith(header)
    printed = cli("compare", doubled.folder, doubled.folder, "--cluster", file)
    assert printed.code == 0
    assert "flips the sign of each cluster's difference" in " ".join(printed.out.split())


@pytest.mark.parametrize(
    ("recipe", "refusal"),
    [
        (["a", "z"], "`recipe` names 'z', which is not one of the members a, b, c"),
        (["a"], "`recipe` names one member; an interval over members needs two or more"),
    ],
)
def test_an_interval_over_members_needs_members_of_the_run(
    single: Results, recipe: list[str], refusal: str
) -> None:
    with pytest.raises(InputError, match=refusal):
        analyse(single, recipe=recipe)


def test_members_that_differ_in_more_than_their_weights_are_of_no_one_recipe(single: Results) -> None:
    first, *others = single.key.members
    other = replace(single, key=replace(single.key, members=(replace(first, options={"width": 2}), *others)))
    with pytest.raises(InputError, match="members with different architectures, inputs or crops"):
        analyse(other, recipe=["a", "b"])
    errors = analyse(single, recipe=["a", "b"]).recipe_errors[1, 10]
    assert errors.members == 2
    wrong = single.decisions().wrong[1][:2, 1]
    assert errors.mean_percent == pytest.approx(100 * float(np.mean(wrong)))
