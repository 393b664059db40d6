"""Two runs over the same images: what differs is counted, what cannot be compared is named."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import member_key, run_key
from conftest import Cli
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.reports.api import Results, read_results
from ensemble_eval.results import compare as compare_module
from ensemble_eval.results.compare import Comparison, compare
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

KEY = replace(run_key(images=3, scores=True), classes=2)
RANKS = {"x": 0, "y": 4, "z": 9}
SCORES = {"x": [0.5, 0.5], "y": [0.25, 0.75], "z": [0.0, 1.0]}


def stored(
    out: Path,
    ranks: Mapping[str, int] = RANKS,
    scores: Mapping[str, Sequence[float]] = SCORES,
    *,
    label: int = 0,
    unreadable: Sequence[str] = (),
    keeps_scores: bool = True,
    **changes: Any,
) -> Results:
    """The results of a run of one member with one crop."""
    key = replace(KEY, images=len(ranks) + len(unreadable), scores=keeps_scores, **changes)
    for name in reversed(list(ranks)):
        row = {"image": name, "member": key.member_names[0], "crops": 1, "label": label, "rank": ranks[name]}
        Store(out, RUN, key).write(Part([{**row, "scores": scores[name]}], [name]))
    if unreadable:
        Store(out, RUN, key).write(Part(unreadable=dict.fromkeys(unreadable, "damaged")))
    return read_results(out)


def decided(out: Path, top5: Mapping[str, bool], top1: Mapping[str, bool | None]) -> Results:
    key = replace(KEY, scores=False, until_decided=("top-5",))
    rows = [
        {
            "image": name,
            "member": "a",
            "crops": 1,
            "label": 0,
            "top5_correct": top5[name],
            "top1_correct": top1[name],
        }
        for name in top5
    ]
    Store(out, RUN, key).write(Part(rows, list(top5)))
    return read_results(out)


def test_a_run_differs_from_itself_in_nothing(tmp_path: Path) -> None:
    results = stored(tmp_path)
    assert compare(results, results) == [Comparison("a", 1, 3, 0, 0, 0, 0.0)]


def test_decisions_ranks_and_scores_that_differ_are_told(tmp_path: Path) -> None:
    one = stored(tmp_path / "one")
    # x: the best class is another; y: no more among the five best; z: wrong as before, at another rank.
    other = stored(tmp_path / "other", {"x": 1, "y": 5, "z": 8}, {**SCORES, "y": [0.5, 0.5]}, precision="bfloat16")
    assert compare(one, other) == [
        Comparison("a", 1, 3, top5_differs=1, top1_differs=1, rank_differs=3, largest_score_difference=0.25)
    ]


def test_what_a_run_did_not_store_is_not_compared(tmp_path: Path) -> None:
    one = stored(tmp_path / "one")
    without = stored(tmp_path / "without", keeps_scores=False)
    assert compare(one, without) == compare(without, one) == [Comparison("a", 1, 3, 0, 0, 0, None)]
    stopped = decided(
        tmp_path / "stopped", {"x": True, "y": False, "z": False}, {"x": True, "y": None, "z": False}
    )
    assert compare(one, stopped) == [Comparison("a", 1, 3, 1, None, None, None)]
    known = decided(tmp_path / "known", {"x": True, "y": True, "z": False}, {"x": False, "y": False, "z": False})
    assert compare(known, one) == [Comparison("a", 1, 3, 0, 1, None, None)]


def test_the_largest_score_difference_is_that_of_sorted_frames_in_whatever_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stored_run(tmp_path / "one", simulated_scores(30, 3), part_images=4)
    changed = [
        replace(each, mean_softmax={crops: scores[::-1] for crops, scores in each.mean_softmax.items()})
        for each in simulated_scores(30, 3)
    ]
    other = stored_run(tmp_path / "other", changed, part_images=9)
    at_once = compare(one, other)
    for size in (2 * 30 * 7 * 4, 1):
        monkeypatch.setattr(compare_module, "_SCORE_BYTES", size)
        assert compare(one, other) == at_once
    ours, theirs = (each.predictions(["image", "member", "crops", "scores"]) for each in (one, other))
    for row in at_once:
        both = [
            np.stack(list(frame[(frame["member"] == row.member) & (frame["crops"] == row.crops)]["scores"]))
            for frame in (ours, theirs)
        ]
        assert row.largest_score_difference == float(np.abs(both[0] - both[1]).max())
    assert at_once[0].largest_score_difference
    assert at_once[2].largest_score_difference == 0


MANY = {f"{number}.png": 0 for number in range(6)}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"ranks": {"x": 0, "y": 4, "new": 9}, "scores": {**SCORES, "new": [0, 1]}},
            "the runs differ in their images: only {one} has z; only {other} has new; compare runs over the same",
        ),
        (
            {"ranks": MANY, "scores": dict.fromkeys(MANY, (0, 1))},
            "images: only {one} has x, y, z; only {other} has 0.png, 1.png, 2.png, …; compare",
        ),
        ({"ranks": {"x": 0, "y": 4}, "unreadable": ["z"]}, "images: only {one} has z; compare"),
        ({"members": (member_key("b"),)}, "members: only {one} has a; only {other} has b; compare"),
        ({"crops": 10}, "crop schemes: only {other} has 10; compare"),
        ({"classes": 9}, "{one} has 2 classes and {other} 9; compare runs of the same classes"),
        ({"label": 1}, "{one} and {other} have other labels for x, y, z; compare runs with the same labels"),
    ],
)
def test_runs_that_do_not_compare_are_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    one, other = stored(tmp_path / "one"), stored(tmp_path / "other", **fields)
    with pytest.raises(InputError) as refusal:
        compare(one, other)
    assert sentence.format(one=one.folder, other=other.folder) in str(refusal.value)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    one = stored(tmp_path / "one")
    Store(tmp_path / "other", RUN, KEY).write(Part(images=["x"]))
    with pytest.raises(
        InputError, match=r"2 of 3 images in .*other are not evaluated yet; run the same evaluation"
    ):
        compare(one, read_results(tmp_path / "other"))


@pytest.mark.slow
def test_the_command_prints_a_row_for_each_member_and_scheme_and_the_sums(
    cli: Cli, dataset: Path, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", dataset, "--ensemble", ensemble, "--crops", "10", "--device", "cpu", "--out")
    assert cli(*run, tmp_path / "one").code == 0
    assert cli(*run, tmp_path / "größte", "--precision", "bfloat16", "--until-decided").code == 0
    monkeypatch.setenv("COLUMNS", "100")
    compared = cli("compare", tmp_path / "one", tmp_path / "größte")
    assert compared.code == 0, compared.err
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in compared.out.splitlines() if "│" in line]
    errors, decisions = rows[:4], rows[4:]
    assert [row[:3] for row in errors] == [["2", models, crops] for models in "12" for crops in ("1", "10")]
    assert {row[-1] for row in errors} == {"cannot be told apart"}
    assert [row[:2] for row in decisions] == [[name, n] for name in ("a", "b", "ensemble") for n in ("1", "10")]
    assert {row[-1] for row in decisions} == {"–"}
    assert "2 runs over the same 6 images" in compared.out
    assert f"run 2 is {tmp_path / 'größte'}; its one model is " in compared.out
    assert "adjusted by Holm's method over 4 comparisons" in compared.out
    assert "of 36 decisions differ, " in compared.out
    assert "top-1: not known for every image, because a run used --until-decided" in compared.out

    refused = cli("compare", tmp_path / "one", tmp_path / "nothing")
    assert refused.code == 2
    assert f"{tmp_path / 'nothing'} holds no results" in refused.err

    command = [sys.executable, "-m", "ensemble_eval", "compare", str(tmp_path / "one"), str(tmp_path / "größte")]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "30"}
    narrow = subprocess.run(command, capture_output=True, env=ascii_only, check=True).stdout
    assert narrow.isascii()
    assert b"ensemble" in narrow
    assert b"..." not in narrow
    assert max(len(line) for line in narrow.splitlines() if line.startswith(b"|")) <= 30
