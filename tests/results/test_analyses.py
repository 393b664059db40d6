"""Analyses of stored runs against Table 3, pandas and the ranks that `Results` computes."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from simulated_runs import SCHEMES, decided_run, simulated_scores, stored_run

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import EnsembleEvalError, InputError, MissingExtraError, UnavailableError
from ensemble_eval.evaluation import decisions as decisions_module
from ensemble_eval.reports.api import Results
from ensemble_eval.results.analyses import Analyses, analyse
from ensemble_eval.results.compare import compare
from ensemble_eval.results.scores import computed_ranks, read_scores, selections_of
from ensemble_eval.scoring.subset_ranks import all_subsets
from ensemble_eval.scoring.table3 import Configuration

IMAGES, MEMBERS = 60, 4


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return stored_run(tmp_path_factory.mktemp("run"), simulated_scores(IMAGES, MEMBERS))


@pytest.fixture(scope="module")
def found(results: Results) -> Analyses:
    return analyse(results, margin_points=5, seed=3)


def test_nothing_is_unavailable_of_a_full_run(found: Analyses) -> None:
    assert found.unavailable == {}
    assert found.missing == 0
    assert [str(each) for each in found.configurations] == ["1×1", "1×10", "4×1", "4×10"]


def test_decisions_are_those_of_table_3(results: Results, found: Analyses) -> None:
    table = results.table3()
    for k in (5, 1):
        counted = found.decisions.wrong_by_configuration(k).sum(axis=1)
        assert list(counted) == list(table[f"top{k}_wrong"])
        for pair in found.comparisons[k].against_base:
            assert pair.base_wrong == table[f"top{k}_wrong"][0]
            assert pair.other_wrong == table[f"top{k}_wrong"][pair.other]
            assert pair.margin_points == 5
    frame = results.predictions(["image", "member", "crops", "label", "rank"])
    wrong = frame[frame["crops"] == 1].groupby("member")["rank"].agg(lambda ranks: (ranks >= 1).sum())
    assert found.decisions.one_model_member == wrong[list(results.members)].idxmin()
    labels = frame.drop_duplicates("image")["label"]
    assert list(found.decisions.labels) == list(labels)
    assert len(found.comparisons[5].against_base) == 3
    assert len(found.comparisons[5].between) == 6


def test_ranks_of_all_subsets_are_those_that_results_compute_or_store(results: Results) -> None:
    scores = read_scores(results, results.decisions())
    assert scores.subsets == all_subsets(MEMBERS)
    names = [[results.members[member] for member in subset] for subset in scores.subsets]
    selections = selections_of(names, results.members, results.members[0])
    assert [list(each.members) for each in selections] == names
    stored = results.predictions(["image", "member", "crops", "rank"])
    computed = [each for each in selections if each.is_computed]
    ranks = dict(zip([each.label for each in computed], computed_ranks(results, computed), strict=True))
    for scheme, crops in enumerate(SCHEMES):
        for row, selection in enumerate(selections):
            rows = stored[(stored["member"] == selection.label) & (stored["crops"] == crops)]
            expected = ranks[selection.label][scheme] if selection.is_computed else rows["rank"]
            assert list(scores.ranks[scheme, row]) == list(expected)


def test_ensembles_and_members_agree_with_the_table(results: Results, found: Analyses) -> None:
    for k in (5, 1):
        for crops in SCHEMES:
            ensembles, members = found.ensembles[k, crops], found.members[k, crops]
            table = results.table3([["a"], ["b"], ["c"], ["d"], ["a", "c"], ["b", "c", "d"], 4], crops)
            wrong = dict(zip(table["members"], table[f"top{k}_wrong"], strict=True))
            names = [tuple(results.members[member] for member in subset) for subset in ensembles.subsets]
            assert {name: wrong[name] for name in wrong} == {
                name: count for name, count in zip(names, ensembles.wrong, strict=True) if name in wrong
            }
            assert [each.size for each in ensembles.sizes] == [1, 2, 3, 4]
            assert members.one_model.mean_error_percent == pytest.approx(ensembles.sizes[0].mean_error_percent)
            without_a = ensembles.leave_one_out[0]
            assert (without_a.base_wrong, without_a.other_wrong) == (
                wrong[results.members],
                wrong[("b", "c", "d")],
            )
            assert len(ensembles.leave_one_out) == MEMBERS
            assert len(members.diversity) == 6
            assert ensembles.greedy is not None


@pytest.mark.slow
def test_calibration_is_that_of_the_stored_scores(results: Results, found: Analyses) -> None:
    # Imported here: it takes a second of every process that collects tests.
    from torchmetrics.functional.classification import multiclass_calibration_error

    frame = results.predictions()
    assert tuple(found.reliabilities) == found.configurations
    for configuration, reliability in found.reliabilities.items():
        rows = frame[(frame["member"] == configuration.name) & (frame["crops"] == configuration.crops)]
        scores = torch.tensor(np.stack(list(rows["scores"])))
        expected = multiclass_calibration_error(scores, torch.tensor(rows["label"].to_numpy()), 7, n_bins=15)
        assert reliability.expected_calibration_error == pytest.approx(float(expected), abs=1e-6)
    assert tuple(found.temperatures) == (found.configurations[0], found.configurations[-1])


def test_classes_and_images_that_the_last_row_moves(results: Results, found: Analyses) -> None:
    classes, last = found.classes, found.configurations[-1]
    assert (classes.first, classes.last) == (found.configurations[0], last)
    for k in (5, 1):
        total = found.comparisons[k].against_base[-1]
        assert sum(each.fixed for each in classes.errors[k]) == total.fixed == len(classes.moved[k].fixed)
        assert sum(each.broken for each in classes.errors[k]) == total.broken == len(classes.moved[k].broken)
    frame = results.predictions(["member", "crops", "label", "top5"])
    rows = frame[(frame["member"] == last.name) & (frame["crops"] == last.crops)]
    table = pd.crosstab(rows["label"], rows["top5"].map(lambda best: best[0])).to_numpy().copy()
    np.fill_diagonal(table, 0)
    assert classes.confused is not None
    assert classes.confused[0].images == table.max()


def test_the_same_seed_gives_the_same_analyses(results: Results, found: Analyses) -> None:
    again = analyse(results, margin_points=5, seed=3)
    assert again.comparisons == found.comparisons
    assert again.temperatures == found.temperatures
    assert again.ensembles[5, 1].greedy == found.ensembles[5, 1].greedy


def test_parts_of_any_size_give_the_same(tmp_path: Path, found: Analyses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions_module, "_BLOCK_IMAGES", 5)
    run = stored_run(tmp_path, simulated_scores(IMAGES, MEMBERS), part_images=2)
    other = analyse(run, margin_points=5, seed=3)
    assert other.comparisons == found.comparisons
    for place, ensembles in other.ensembles.items():
        assert np.array_equal(ensembles.wrong, found.ensembles[place].wrong)
    assert other.temperatures == found.temperatures


def test_without_scores_it_is_said_what_cannot_be_had(tmp_path: Path, found: Analyses) -> None:
    run = stored_run(tmp_path, simulated_scores(IMAGES, MEMBERS), keeps_scores=False)
    other = analyse(run, margin_points=5, seed=3)
    assert other.comparisons == found.comparisons
    assert other.reliabilities == found.reliabilities
    assert other.classes == found.classes
    assert (other.ensembles, other.temperatures) == ({}, {})
    assert other.members.keys() == found.members.keys()
    why = "need scores, and this run stored none; evaluate with `store_scores=True`"
    assert other.unavailable == {
        "ensembles": f"ensembles of some of the members {why}",
        "temperatures": f"temperatures {why}",
    }


def test_of_a_decided_run_decisions_are_all_there_is(tmp_path: Path, results: Results, found: Analyses) -> None:
    other = analyse(decided_run(tmp_path / "5", results, knows_top1=False), margin_points=5, seed=3)
    assert other.comparisons == {5: found.comparisons[5]}
    assert other.configurations == found.configurations
    assert set(other.members) == {(5, 1), (5, 10)}
    assert set(other.unavailable) == {"ensembles", "temperatures", "calibration", "top-1"}
    assert "did not store every top-1 decision; evaluate with `top1=True`" in other.unavailable["top-1"]
    assert "evaluate without `until_decided=True` and with" in other.unavailable["ensembles"]
    assert other.classes.confused is None
    assert set(other.classes.errors) == {5}
    with pytest.raises(UnavailableError, match="top-1"):
        other.decisions.wrong_by_configuration(1)
    both = analyse(decided_run(tmp_path / "both", results, knows_top1=True), margin_points=5, seed=3)
    assert both.comparisons == found.comparisons


def test_an_unfinished_run_is_partial_or_refused(tmp_path: Path) -> None:
    run = stored_run(tmp_path, simulated_scores(20, 2), of_images=25)
    with pytest.raises(InputError, match="5 of 25 images"):
        analyse(run)
    found = analyse(run, partial=True)
    assert (found.missing, len(found.decisions.images)) == (5, 20)


def test_one_member_and_few_images_have_analyses(tmp_path: Path) -> None:
    found = analyse(stored_run(tmp_path / "one", simulated_scores(3, 1)))
    assert found.configurations == (Configuration(1, 1, "a"), Configuration(1, 10, "a"))
    assert found.ensembles[5, 10].leave_one_out == ()
    assert found.ensembles[5, 10].greedy is None
    assert found.members[5, 1].diversity == ()


def test_more_than_twelve_members_have_no_subsets(tmp_path: Path) -> None:
    found = analyse(stored_run(tmp_path, simulated_scores(6, 13)))
    assert found.unavailable == {
        "ensembles": "13 members have 8191 subsets; all subsets are formed of up to 12 members"
    }
    assert found.ensembles == {}
    assert len(found.temperatures) == 2


def test_a_margin_is_checked_before_anything_is_read(results: Results) -> None:
    with pytest.raises(InputError, match="`margin`"):
        analyse(results, margin_points=0)


@pytest.mark.parametrize("package", ["scipy.stats", "scipy.optimize"])
def test_a_missing_package_is_named_before_anything_is_read(
    results: Results, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(Results, "tables", None)
    with pytest.raises(
        MissingExtraError, match=r"^scipy is not installed; run: pip install 'ensemble-eval\[report\]'$"
    ):
        analyse(results)


def test_missing_rows_are_no_silent_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored_run(tmp_path, simulated_scores(6, 2))
    tables = Results.tables
    monkeypatch.setattr(Results, "tables", lambda self, columns: (each.slice(1) for each in tables(self, columns)))
    with pytest.raises(EnsembleEvalError, match="do not hold each of 6 images exactly once"):
        run.decisions()


@pytest.mark.slow
@pytest.mark.processes
def test_analyses_load_no_torch(results: Results) -> None:
    code = (
        "import sys; from ensemble_eval.reports.api import read_results\n"
        "from ensemble_eval.results.analyses import analyse\n"
        "assert 'scipy' not in sys.modules\n"
        f"analyse(read_results({str(results.folder)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SEVERAL = Scope(several_labels=True)


def _several_labels(scores: Sequence[ImageScores]) -> dict[str, list[int]]:
    """One to three labels for each image, in no order."""
    rng = np.random.default_rng(3)
    return {each.id: rng.permutation(7)[: 1 + place % 3].tolist() for place, each in enumerate(scores)}


def test_with_several_labels_classes_and_confusions_go_by_every_label(tmp_path: Path) -> None:
    """Against pandas: a row for every label of every image."""
    scores = simulated_scores(60, 3)
    run = stored_run(tmp_path, scores, scope=SEVERAL, labels=_several_labels(scores))
    frame = run.predictions(["image", "member", "crops", "labels", "rank", "top5"])
    frame["best"] = frame["top5"].str[0]
    frame["wrong"] = [best not in labels for best, labels in zip(frame["best"], frame["labels"], strict=True)]
    assert (frame["wrong"] == (frame["rank"] >= 1)).all()
    classes = analyse(run).classes
    first, last = (
        frame.query(f"member == {each.name!r} and crops == {each.crops}").explode("labels").reset_index(drop=True)
        for each in (classes.first, classes.last)
    )
    pairs = pd.DataFrame({"class": first["labels"], "first": first["wrong"], "last": last["wrong"]})
    pairs["fixed"], pairs["broken"] = pairs["first"] & ~pairs["last"], pairs["last"] & ~pairs["first"]
    sums = pairs.groupby("class").agg("sum")
    assert [
        (each.class_index, each.first_wrong, each.last_wrong, each.fixed, each.broken)
        for each in classes.errors[1]
    ] == list(sums.itertuples(name=None))
    assert sum(each.images for each in classes.errors[1]) == len(pairs) == 120
    confused = last[last["wrong"]].groupby(["labels", "best"]).size()
    assert classes.confused is not None
    assert {(each.label, each.answered): each.images for each in classes.confused} == confused.to_dict()
    assert all(each.label != each.answered for each in classes.confused)


def test_runs_whose_further_labels_differ_are_not_compared(tmp_path: Path) -> None:
    scores = simulated_scores(6, 2)
    labels = _several_labels(scores)
    one = stored_run(tmp_path / "one", scores, scope=SEVERAL, labels=labels)
    reordered = {image: list(reversed(each)) for image, each in labels.items()}
    assert compare(one, stored_run(tmp_path / "same", scores, scope=SEVERAL, labels=reordered))
    changed = {**labels, "001.png": [labels["001.png"][0]]}
    with pytest.raises(InputError, match=r"have other labels for 001\.png; compare"):
        compare(one, stored_run(tmp_path / "other", scores, scope=SEVERAL, labels=changed))
