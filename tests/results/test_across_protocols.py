"""Runs of two protocols: not compared unless asked, and then the largest scheme of one with that of the other."""

from pathlib import Path

import numpy as np
import pytest
from builders import member_key, run_key
from conftest import Cli
from numpy.typing import NDArray
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.crops.protocols import PROTOCOLS, Protocol, own_protocol
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.reports.api import Results, read_results
from ensemble_eval.results.compare import compare_errors
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

IMAGES = 60
GRID = Protocol(name="grid", size=64, scales=(80,), positions=("centre",), grid=2, schemes=(1, 5))


def _run(out: Path, scores: list[ImageScores], *protocols: Protocol, weights: str = "w1") -> Results:
    """A stored run whose members have these protocols; its schemes get the drawn scores of 1 and 10 crops."""
    members = [member_key(name, weights) for name in "ab"]
    crops = protocols[0].schemes[-1]
    key = run_key(
        images=len(scores),
        crops=crops,
        scores=True,
        members=tuple(
            type(member)(**{**vars(member), "protocol": protocol})
            for member, protocol in zip(members, protocols, strict=True)
        ),
    )
    drawn = {1: 1, crops: 10}
    rows = [
        row
        for each in scores
        for row in rows_of(
            ImageScores(
                each.id,
                each.label,
                {scheme: each.mean_softmax[drawn[scheme]] for scheme in key.schemes},
                passes=1,
            ),
            key,
            (each.label,),
        )
    ]
    Store(out, RUN, key).write(Part(rows, [each.id for each in scores]))
    return read_results(out)


@pytest.fixture(scope="module")
def scores() -> list[ImageScores]:
    return simulated_scores(IMAGES, 2)


@pytest.fixture(scope="module")
def runs(scores: list[ImageScores], tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """10 crops of the central square, and 5 of a grid; both have a scheme of 1."""
    folder = tmp_path_factory.mktemp("runs")
    ten = PROTOCOLS["krizhevsky-10"]
    return [_run(folder / "ten", scores, ten, ten), _run(folder / "grid", scores, GRID, GRID)]


def test_two_protocols_are_refused_unless_asked(runs: list[Results]) -> None:
    with pytest.raises(InputError) as refused:
        compare_errors(runs)
    assert str(refused.value) == (
        f"{runs[0].folder} has the protocol krizhevsky-10, and {runs[1].folder} grid; "
        "`across_protocols=True` compares the errors of both"
    )


def test_the_largest_schemes_are_compared_with_each_other(runs: list[Results]) -> None:
    found = compare_errors(runs, across_protocols=True)
    for k in (5, 1):
        rows = [(each.models, each.base.crops, each.other.crops, each.crops) for each in found.differences[k]]
        assert rows == [("1", 1, 1, "1"), ("1", 10, 5, "10 and 5"), ("2", 1, 1, "1"), ("2", 10, 5, "10 and 5")]
        # Both have the same drawn scores, so no image is right in one only.
        assert {each.paired.fixed + each.paired.broken for each in found.differences[k]} == {0}
    assert found.left_out_crops == ()


def test_the_differences_are_those_of_the_rows_by_hand(
    runs: list[Results], scores: list[ImageScores], tmp_path: Path
) -> None:
    others = [
        ImageScores(each.id, label.label, each.mean_softmax, passes=1)
        for each, label in zip(simulated_scores(IMAGES, 2, seed=1), scores, strict=True)
    ]
    found = compare_errors([runs[0], _run(tmp_path, others, GRID, GRID)], across_protocols=True)
    for k in (5, 1):
        for each in found.differences[k]:
            wrong = []
            for images, row in ((scores, each.base), (others, each.other)):
                drawn = {1: 1, 10: 10, 5: 10}[row.crops]
                means = np.stack([image.mean_softmax[drawn] for image in images])
                chosen = means.mean(axis=1) if row.name == "ensemble" else means[:, "ab".index(row.name)]
                labels = np.array([image.label for image in images])
                wrong.append(_ranks(chosen.astype(np.float32), labels) >= k)
            assert each.paired.fixed == np.count_nonzero(wrong[0] & ~wrong[1])
            assert each.paired.broken == np.count_nonzero(~wrong[0] & wrong[1])
        assert sum(each.paired.fixed for each in found.differences[k]) > 0


def _ranks(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the label; of equal ones those of a smaller index."""
    of_label = probabilities[np.arange(len(labels)), labels][:, None]
    before = probabilities > of_label
    ties = (probabilities == of_label) & (np.arange(probabilities.shape[1]) < labels[:, None])
    ranks: NDArray[np.int64] = (before | ties).sum(axis=1)
    return ranks


def test_one_protocol_is_compared_as_ever(scores: list[ImageScores], tmp_path: Path) -> None:
    one, other = (stored_run(tmp_path / name, scores) for name in "ab")
    asked, unasked = (compare_errors([one, other], across_protocols=each) for each in (True, False))
    assert asked == unasked
    assert [each.crops for each in asked.differences[5]] == ["1", "10", "1", "10"]


def test_publishers_own_crops_are_one_protocol(scores: list[ImageScores], tmp_path: Path) -> None:
    own = [own_protocol(size, size, "center", "bicubic", (0.5, 0.5, 0.5)) for size in (224, 299, 384)]
    one = _run(tmp_path / "a", scores, own[0], own[1])
    other = _run(tmp_path / "b", scores, own[2], own[2])
    assert [each.crops for each in compare_errors([one, other]).differences[5]] == ["1", "1"]


def test_the_command_compares_when_it_is_asked(
    cli: Cli, runs: list[Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folders = [each.folder for each in runs]
    refused = cli("compare", *folders)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        f"error: {folders[0]} has the protocol krizhevsky-10, and {folders[1]} grid; "
        "--across-protocols compares the errors of both\n"
    )
    printed = cli("compare", *folders, "--across-protocols")
    assert printed.code == 0, printed.err
    assert "10 and 5" in printed.out
    assert "Single decisions are not compared: " in printed.out
