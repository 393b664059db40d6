"""Sentences on a run: no stronger than their tests, and true of every kind of run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_runs import decided_run, simulated_scores, stored_run

from ensemble_eval.reports import findings
from ensemble_eval.results.analyses import Analyses, RowComparisons, analyse
from ensemble_eval.results.crop_study import CropStudy
from ensemble_eval.scoring.calibration import reliability
from ensemble_eval.scoring.classes import ConfusedPair
from ensemble_eval.scoring.paired import PairedDifference, paired_differences

MINUS = "\N{MINUS SIGN}"


def pair_of(fixed: int, broken: int, images: int, both: int = 0) -> PairedDifference:
    wrong = np.zeros((2, images), bool)
    wrong[0, : fixed + both] = True
    wrong[1, fixed : fixed + both + broken] = True
    [pair] = paired_differences(wrong, [(0, 1)], resamples=0)
    return pair


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analyses:
    return analyse(stored_run(tmp_path_factory.mktemp("run"), simulated_scores(60, 3)))


def with_pair(found: Analyses, pair: PairedDifference) -> Analyses:
    """The same analyses with other numbers for the comparison of the last row with the first."""
    base, last = found.configurations[0], len(found.configurations) - 1
    assert (base.models, last) == (1, 3)
    pair = replace(pair, base=0, other=last)
    comparisons = {5: RowComparisons((pair,), (pair, replace(pair, base=1), replace(pair, base=2)))}
    return replace(found, comparisons=comparisons)


@pytest.mark.parametrize(
    ("counts", "relation", "numbers", "verdict"),
    [
        (
            (6, 2, 100, 5),
            "36% fewer",
            "7.0 11.0 -4.0 -10.8 +1.9",
            "The two cannot be told apart on 100 images (p = 0.29)",
        ),
        ((40, 5, 1000), "88% fewer", "0.5 4.0 -3.5 -5.0 -2.3", "The difference is significant (p <0.001)"),
        ((5, 40, 1000), "700% more", "4.0 0.5 +3.5 +2.3 +5.0", "The difference is significant (p <0.001)"),
        (
            (100, 50, 50_000),
            "50% fewer",
            "0.10 0.20 -0.10 -0.15 -0.05",
            "The difference is significant and smaller than 0.5 points (p <0.001)",
        ),
        ((2, 1, 20_000, 2000), "less than 1% fewer", "10.01 10.01 -0.01 -0.03 +0.02", "The two are equal"),
        ((0, 2, 40), "more", "5.0 0.0 +5.0 -4.2 +16.5", "The two cannot be told apart on 40 images (p = 0.5)"),
    ],
)
def test_the_main_sentence_is_no_stronger_than_its_test(
    found: Analyses, counts: Sequence[int], relation: str, numbers: str, verdict: str
) -> None:
    sentence = findings.main_finding(with_pair(found, pair_of(*counts))).replace("adjusted ", "")
    other, base, difference, low, high = numbers.replace("-", MINUS).split()
    assert sentence.startswith(
        f"Three models with ten crops make {relation} top-5 errors than one model with one crop: {other}% against "
        f"{base}%, a difference of {difference} points (95% interval {low} to {high}). {verdict}"
    )


def test_equal_errors_are_equal_within_a_margin_only(found: Analyses) -> None:
    many = findings.main_finding(with_pair(found, pair_of(20, 20, 10_000)))
    assert " make as many top-5 errors as one model with one crop: 0.20% against 0.20%, " in many
    assert many.endswith("The two are equal within 0.5 points (adjusted p <0.001).")
    few = findings.main_finding(with_pair(found, pair_of(0, 0, 12)))
    assert few.endswith(
        " The two cannot be told apart on twelve images (adjusted p = 1); their outcomes differ on no images."
    )


def test_what_so_many_images_detect_is_said_where_rows_cannot_be_told_apart(found: Analyses) -> None:
    """As docs/statistics.md has it for 500 images, of which one row alone gets 5% wrong."""

    def said(fixed: int, broken: int, images: int) -> str:
        return findings.main_finding(with_pair(found, pair_of(fixed, broken, images)))

    assert said(13, 12, 500).endswith("; this many images detect a difference of 2.9 points in 80% of cases.")
    assert said(3, 2, 100).endswith(
        "; their outcomes differ on five images, too few to detect a difference reliably."
    )
    assert "80% of cases" not in said(40, 5, 1000)


def test_crops_and_models_are_compared_with_the_rest_held_fixed(found: Analyses) -> None:
    between = {(each.base, each.other): each for each in found.comparisons[5].between}
    crops, models = findings.crops_finding(found, None), findings.models_finding(found)
    assert crops.startswith("With three models, ten crops instead of one crop change the top-5 error by ")
    assert models.startswith("With ten crops per image, three models instead of one change the top-5 error by ")
    for sentence, pair in ((crops, between[2, 3]), (models, between[1, 3])):
        assert f" {abs(pair.difference_points):.1f} points".replace(" ", "") in sentence.replace("+", "").replace(
            MINUS, ""
        ).replace(" ", "")
        assert findings.verdict(pair) in sentence


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ([[0, 1, 1]] * 30, ", and going beyond two crops brings no significant improvement."),
        ([[0, 0, 1]] * 30, ", and the error keeps falling up to the last crop."),
    ],
)
def test_the_number_of_crops_that_is_enough_is_said(found: Analyses, right: list[list[int]], said: str) -> None:
    ranks = np.where(np.array(right), 0, 9).astype(np.uint16)[:, None, :]
    none = np.zeros((len(right), 1, 0, 2), np.uint16)
    study = CropStudy(("a",), ("a",), (1, 3), (), ranks, none, none)
    assert findings.crops_finding(found, study).endswith(said)


def test_the_member_whose_removal_costs_most_is_named(found: Analyses) -> None:
    ensembles = found.ensembles[5, 10]
    one, *others = (replace(each, difference_points=-1.0) for each in ensembles.leave_one_out)
    nobody = replace(found, ensembles={(5, 10): replace(ensembles, leave_one_out=(one, *others))})
    assert findings.members_finding(nobody) == (
        "Leaving out any one member does not raise the top-5 error of the ensemble with ten crops."
    )
    second = replace(others[0], difference_points=2.0)
    somebody = replace(found, ensembles={(5, 10): replace(ensembles, leave_one_out=(one, second, others[1]))})
    said = findings.members_finding(somebody)
    assert said.startswith(
        "b contributes most: without b, the top-5 error of the ensemble with ten crops changes by +2.0"
    )
    assert findings.verdict(second) in said
    third = replace(others[1], difference_points=2.0)
    both = replace(found, ensembles={(5, 10): replace(ensembles, leave_one_out=(one, second, third))})
    assert findings.members_finding(both).startswith("b, c contribute most: without b, ")


def test_confidence_is_too_high_or_too_low(found: Analyses) -> None:
    row = found.configurations[-1]
    wrong = np.array([True, False, False, False])
    for confidence, said in (
        (0.95, "overconfident by 20.0 points"),
        (0.6, "underconfident by 15.0 points"),
        (0.75, "calibrated"),
    ):
        curve = reliability(np.full(4, confidence), ~wrong)
        sentence = findings.calibration_finding(replace(found, reliabilities={row: curve}, temperatures={}))
        assert f"Three models with ten crops are {said} on average" in sentence
        assert f"confidence is {100 * confidence:.1f}%, the top-1 accuracy 75.0%" in sentence
        assert "temperature" not in sentence
    assert "cross-fitted" in findings.calibration_finding(found)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((4, 3), "; the most frequent confusion is E mistaken for B (4 of its 9 images)."),
        ((4, 4), "; one of the most frequent confusions is E mistaken for B (4 of its 9 images)."),
        ((2,), "; the most frequent confusion is E mistaken for B (2 of its 9 images)."),
        ((1, 1), " of 60 images."),
        ((), " of 60 images."),
    ],
)
def test_the_most_frequent_confusion_is_named(found: Analyses, counts: Sequence[int], said: str) -> None:
    wrong = int(found.decisions.outcomes(found.configurations[-1], 5).sum())
    pairs = tuple(ConfusedPair(4 - at, 1, count, 9) for at, count in enumerate(counts))
    sentence = findings.classes_finding(replace(found, classes=replace(found.classes, confused=pairs)), "ABCDEFG")
    assert sentence.startswith(f"Three models with ten crops make a top-5 error on {wrong} of 60 images")
    assert sentence.endswith(said)


def test_one_member_and_one_crop_compare_nothing(tmp_path: Path) -> None:
    found = analyse(stored_run(tmp_path, simulated_scores(30, 1)))
    assert findings.main_finding(found).startswith("One model with ten crops makes ")
    assert findings.models_finding(found) == "The run has one model, so it does not show whether more models help."
    assert findings.members_finding(found) == "The run has one member, a."
    assert findings.calibration_finding(found).startswith("One model with ten crops is ")
    decisions = replace(
        found.decisions,
        crops=(1,),
        wrong={k: each[:, :1] for k, each in found.decisions.wrong.items()},
        is_known={k: each[:, :1] for k, each in found.decisions.is_known.items()},
    )
    single = replace(found, decisions=decisions, configurations=found.configurations[:1])
    count = int(decisions.wrong[5].sum())
    assert findings.main_finding(single).startswith(
        f"One model with one crop has a top-5 error of {100 * count / 30:.1f}% on 30 images (95% interval "
    )
    assert findings.crops_finding(single, None) == (
        "The run has one number of crops, so it does not show whether more crops help."
    )


def test_a_decided_run_says_what_it_knows(tmp_path: Path) -> None:
    full = stored_run(tmp_path / "full", simulated_scores(40, 2))
    found = analyse(decided_run(tmp_path / "decided", full, knows_top1=False))
    assert findings.calibration_finding(found) == ""
    assert "confusion" not in findings.classes_finding(found, None)
    low, high = found.members[5, 10].one_model.range_percent
    assert findings.members_finding(found) == (
        f"With ten crops, the top-5 errors of single members range from {low:.2f}% to {high:.2f}%."
    )
