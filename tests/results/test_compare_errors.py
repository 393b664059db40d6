"""Errors of several runs against the first: the same statistics, whatever their members."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from simulated_runs import SCHEMES, decided_run, simulated_scores, stored_run

from ensemble_eval.cli.compare import compare as compare_command
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import InputError
from ensemble_eval.reports.api import Results
from ensemble_eval.results.compare import compare_errors
from ensemble_eval.scoring.paired import MARGIN_POINTS, paired_differences
from ensemble_eval.scoring.table3 import Configuration

IMAGES = 80


def with_members(scores: Sequence[ImageScores], places: Sequence[int]) -> list[ImageScores]:
    """Some of the members, as a run of theirs alone."""
    return [
        replace(each, mean_softmax={crops: found[list(places)] for crops, found in each.mean_softmax.items()})
        for each in scores
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """A run of four members, one of the same images by other members, and one of the last two of the first."""
    scores = simulated_scores(IMAGES, 4)
    other = [
        replace(each, label=one.label) for each, one in zip(simulated_scores(IMAGES, 4, 1), scores, strict=True)
    ]
    return [
        stored_run(tmp_path_factory.mktemp("run"), each) for each in (scores, other, with_members(scores, (2, 3)))
    ]


def wrong_of(results: Results, name: str, crops: int, k: int) -> list[bool]:
    frame = results.predictions(["image", "member", "crops", "rank"])
    return list(frame[(frame["member"] == name) & (frame["crops"] == crops)]["rank"] >= k)


def test_each_row_is_that_of_its_two_vectors_adjusted_over_all_rows(runs: list[Results]) -> None:
    found = compare_errors(runs, margin_points=20, seed=5)
    assert found.left_out_crops == ()
    for k, differences in found.differences.items():
        assert [(each.run, each.base.crops, each.base.models, each.other.models) for each in differences] == [
            (run, crops, *models)
            for run, all_models in ((1, (4, 4)), (2, (4, 2)))
            for models in ((1, 1), all_models)
            for crops in SCHEMES
        ]
        vectors = [
            wrong
            for each in differences
            for wrong in (
                wrong_of(runs[0], each.base.name, each.base.crops, k),
                wrong_of(runs[each.run], each.other.name, each.other.crops, k),
            )
        ]
        pairs = [(2 * row, 2 * row + 1) for row in range(len(differences))]
        expected = paired_differences(np.array(vectors), pairs, margin_points=20, seed=5)
        for each, pair in zip(differences, expected, strict=True):
            assert replace(each.paired, base=pair.base, other=pair.other) == pair
            assert (each.paired.base, each.paired.other) == (0, each.run)
    assert set(found.differences) == {5, 1}


def test_one_model_is_each_runs_own(runs: list[Results]) -> None:
    found = compare_errors(runs)
    for run, member in zip(runs, found.one_model_members, strict=True):
        wrong = {name: sum(wrong_of(run, name, 1, 1)) for name in run.members}
        assert wrong[member] == min(wrong.values())
    assert found.differences[5][0].base == Configuration(1, 1, found.one_model_members[0])


def test_runs_of_one_member_have_one_models_only(tmp_path: Path) -> None:
    scores = simulated_scores(IMAGES, 2)
    alone = [stored_run(tmp_path / str(place), with_members(scores, (place,))) for place in (0, 1)]
    assert [each.base.models for each in compare_errors(alone).differences[1]] == [1, 1]


def test_what_a_decided_run_does_not_know_is_left_out(runs: list[Results], tmp_path: Path) -> None:
    decided = decided_run(tmp_path, runs[0], knows_top1=False)
    found = compare_errors([runs[0], decided])
    assert set(found.differences) == {5}
    assert {each.paired.fixed + each.paired.broken for each in found.differences[5]} == {0}


def test_what_cannot_be_compared_is_refused(runs: list[Results], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`runs` has two or more output folders"):
        compare_errors(runs[:1])
    # Before anything is read.
    with pytest.raises(InputError, match="`margin` is more than 0"):
        compare_errors(runs[:1], margin_points=0)
    fewer = stored_run(tmp_path / "fewer", simulated_scores(IMAGES - 1, 4))
    with pytest.raises(
        InputError, match=f"differ in their images: only {runs[0].folder} has 079.png; compare runs"
    ):
        compare_errors([runs[0], runs[1], fewer])
    other_labels = stored_run(tmp_path / "labels", simulated_scores(IMAGES, 4, seed=2))
    with pytest.raises(InputError, match=r"have other labels for 0\d\d.png, 0\d\d.png, 0\d\d.png, …; compare"):
        compare_errors([runs[0], other_labels])
    unfinished = stored_run(tmp_path / "part", simulated_scores(IMAGES, 4), of_images=IMAGES + 1)
    with pytest.raises(InputError, match=r"1 of 81 images in .* are not evaluated yet"):
        compare_errors([runs[0], unfinished])


def test_the_command_compares_three_runs(cli: Cli, runs: list[Results], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed = cli("compare", *(each.folder for each in runs), "--margin", "25")
    assert printed.code == 0, printed.err
    assert f"3 runs over the same {IMAGES} images" in printed.out
    assert "equal within 25 points" in printed.out
    assert "4 and 2" in printed.out
    assert "of 800 decisions differ" in printed.out
    assert "Single decisions are not compared: the runs differ in their members: only" in printed.out
    assert "adjusted by Holm's method over 8 comparisons" in printed.out


def test_the_command_refuses_one_run_and_a_margin_of_nothing(cli: Cli, runs: list[Results]) -> None:
    alone = cli("compare", runs[0].folder)
    assert (alone.code, alone.err) == (
        2,
        "error: name two or more output folders; the first is what the others are compared with\n",
    )
    refused = cli("compare", runs[0].folder, runs[1].folder, "--margin", "0")
    assert (refused.code, refused.out) == (2, "")
    assert "--margin is more than 0 and less than 100 percentage points, not 0" in refused.err


def test_the_commands_margin_is_the_librarys() -> None:
    [margin] = [each for each in compare_command.params if each.name == "margin"]
    assert margin.default == MARGIN_POINTS


def test_without_the_extra_decisions_are_compared_and_the_extra_is_named(
    cli: Cli, runs: list[Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    printed = cli("compare", runs[0].folder, runs[1].folder)
    assert printed.code == 0
    assert "scipy is not installed; run: pip install 'ensemble-eval[report]'" in printed.err
    assert "of 800 decisions differ" in printed.out
