import dataclasses

import numpy as np
import pytest

from ensemble_eval.errors import EnsembleEvalError, UnavailableError
from ensemble_eval.paper.published import TABLE_3
from ensemble_eval.scoring.paired import paired_differences
from ensemble_eval.scoring.table3 import Configuration, Decisions, Row, gain, table3, table3_table
from ensemble_eval.tables.formats import table_csv

MEMBERS = ["a", "b"]


def _decisions(ranks: dict[tuple[str, int], list[int]], members: list[str] = MEMBERS) -> Decisions:
    """The decisions that follow from the label's rank in each image, by member and scheme."""
    order = [*members, "ensemble"]
    names = tuple(name for name in order if any(name == each for each, _ in ranks))
    crops = tuple(sorted({crops for _, crops in ranks}))
    by_row = np.array([[ranks[name, scheme] for scheme in crops] for name in names])
    images = by_row.shape[-1]
    return Decisions(
        tuple(map(str, range(images))),
        np.zeros(images, np.int32),
        tuple(members),
        names,
        crops,
        {k: by_row >= k for k in (5, 1)},
        {k: np.ones(by_row.shape[:2], bool) for k in (5, 1)},
        None,
        None,
    )


def _unknown(decisions: Decisions, k: int, name: str, crops: int) -> Decisions:
    """The same where the top-k decisions of a member or ensemble with a scheme are not known of every image."""
    known = decisions.is_known[k].copy()
    known[decisions.names.index(name), decisions.crops.index(crops)] = False
    return dataclasses.replace(decisions, is_known={**decisions.is_known, k: known})


RANKS = {
    ("a", 1): [0, 1, 5, 6],
    ("a", 10): [0, 1, 2, 6],
    ("b", 1): [0, 0, 5, 6],
    ("b", 10): [0, 0, 5, 4],
    ("ensemble", 1): [0, 0, 0, 5],
    ("ensemble", 10): [0, 0, 0, 0],
}


def test_rows_are_one_model_and_all_models_with_every_scheme() -> None:
    rows = table3(_decisions(RANKS))
    numbers = [(row.models, row.crops, row.cost, row.top5_wrong, row.top1_wrong, row.images) for row in rows]
    assert numbers == [(1, 1, 1, 2, 2, 4), (1, 10, 10, 1, 2, 4), (2, 1, 2, 1, 1, 4), (2, 10, 20, 0, 0, 4)]
    errors = [(row.top5_error, row.compared_to_base, row.top1_error) for row in rows]
    assert errors == [(50, 0, 50), (25, -25, 50), (25, -25, 25), (0, -50, 0)]


def test_intervals_are_wilsons() -> None:
    # One of four wrong: (0.25 + z²/8 ± z × sqrt(0.25 × 0.75 / 4 + z²/64)) / (1 + z²/4) with z = 1.96.
    row = table3(_decisions(RANKS))[1]
    assert row.top5_low == pytest.approx(4.56, abs=0.01)
    assert row.top5_high == pytest.approx(69.94, abs=0.01)


def test_one_model_rows_use_the_member_with_the_lowest_one_crop_top1_error() -> None:
    # b has the lower one-crop top-1 error, although a has the lower top-5 error and ten-crop errors.
    ranks = {("a", 1): [1, 1, 1], ("b", 1): [0, 9, 9], ("a", 10): [0, 0, 0], ("b", 10): [9, 9, 9]}
    assert _decisions(ranks).one_model_member == "b"


@pytest.mark.parametrize("members", [["a", "b"], ["b", "a"]])
def test_a_tie_goes_to_the_manifests_first_member(members: list[str]) -> None:
    ranks = {("a", 1): [0, 1], ("b", 1): [1, 0]}
    assert _decisions({(name, 1): ranks[name, 1] for name in members}, members).one_model_member == members[0]


def test_a_single_member_has_no_ensemble_rows() -> None:
    rows = table3(_decisions({("a", 1): [0, 7], ("a", 10): [0, 0]}, ["a"]))
    assert [(row.models, row.crops, row.top5_wrong) for row in rows] == [(1, 1, 1), (1, 10, 0)]


def test_other_rows_can_be_asked_for_and_the_base_stays() -> None:
    decisions = _decisions(RANKS).with_ensemble("a+b", np.array([[0, 0, 9, 9], [9, 9, 9, 0]], np.int32))
    asked = [Configuration(models, crops, name) for name, models in (("a+b", 2), ("a", 1)) for crops in (1, 10)]
    numbers = [(row.models, row.crops, row.top5_wrong, row.compared_to_base) for row in table3(decisions, asked)]
    # b is the base, with two of four wrong.
    assert numbers == [(2, 1, 2, 0), (2, 10, 3, 25), (1, 1, 2, 0), (1, 10, 1, -25)]


def _published_wrong(error_percent: float) -> list[int]:
    wrong = round(error_percent * 500)
    return [9] * wrong + [0] * (50_000 - wrong)


def test_the_papers_own_table_3_recomputed_corrects_its_last_difference() -> None:
    members = [f"m{index}" for index in range(7)]
    ranks = {("m0" if models == 1 else "ensemble", crops): error for (models, crops), error in TABLE_3.items()}
    others = {(member, crops): 100.0 for member in members[1:] for crops in (1, 10, 144)}
    by_row = {key: _published_wrong(error) for key, error in (ranks | others).items()}
    rows: list[Row] = table3(_decisions(by_row, members))
    assert [(row.models, row.crops, row.cost) for row in rows] == [
        (1, 1, 1),
        (1, 10, 10),
        (1, 144, 144),
        (7, 1, 7),
        (7, 10, 70),
        (7, 144, 1008),
    ]
    # The paper prints -3.45 in the last line; 10.07 - 6.67 is 3.40.
    assert [f"{row.compared_to_base:.2f}" for row in rows] == ["0.00", "-0.92", "-2.18", "-1.98", "-2.45", "-3.40"]


def test_the_gain_compares_the_largest_configuration_with_the_base_image_by_image() -> None:
    # b stands for one model: two of four wrong; the ensemble with ten crops: none.
    decisions = _decisions(RANKS)
    result = gain(decisions)
    assert (result.difference, result.relative) == (-50, -100)
    # The same interval as reports and comparisons have.
    [paired] = paired_differences(decisions.wrong_by_configuration(5)[[0, -1]], [(0, 1)], resamples=0)
    assert (result.low, result.high) == pytest.approx((paired.low_points, paired.high_points))
    assert result.low < -50 < 0 < result.high


def test_a_base_without_errors_has_no_relative_gain() -> None:
    assert gain(_decisions({key: [0, 0] for key in RANKS})).relative is None


def test_top1_errors_that_are_not_known_of_every_image_are_left_out() -> None:
    """As in a run that stops when decided: it was asked for top-1 with one crop only."""
    decided = _decisions(RANKS)
    for name in ("a", "b", "ensemble"):
        decided = _unknown(decided, 1, name, 10)
    full, rows = table3(_decisions(RANKS)), table3(decided)
    unknown = [dataclasses.replace(row, top1_error=None, top1_wrong=None) for row in full if row.crops == 10]
    assert [row for row in rows if row.crops == 10] == unknown
    assert [row for row in rows if row.crops == 1] == [row for row in full if row.crops == 1]
    assert gain(decided) == gain(_decisions(RANKS))


def test_a_run_that_lacks_one_decision_does_not_know_all_of_them() -> None:
    _decisions(RANKS).require_known(1)
    with pytest.raises(UnavailableError, match="did not store every top-1 decision; evaluate with `top1=True`"):
        _unknown(_decisions(RANKS), 1, "ensemble", 10).require_known(1)


@pytest.mark.parametrize(("k", "name", "crops"), [(1, "a", 1), (1, "b", 1), (5, "b", 1), (5, "ensemble", 10)])
def test_a_decision_that_is_missing_is_no_right_one(k: int, name: str, crops: int) -> None:
    with pytest.raises(EnsembleEvalError, match=r"decisions .*are missing"):
        table3(_unknown(_decisions(RANKS), k, name, crops))


ROWS = [
    Row(1, 1, 1, 10.07, 0.0, 30.5, 5035, 15250, 50000, 9.809, 10.337),
    Row(1, 10, 10, 10.07, -1e-9, 30.0, 5035, 15000, 50000, 9.809, 10.337),
    Row(7, 144, 1008, 6.67, -3.4, 25.0, 3335, 12500, 50000, 6.4543, 6.8923),
    Row(2, 3, 6, 100 / 3, 23.26333, 200 / 3, 1, 2, 3, 6.14919, 79.23404),
    Row(3, 144, 432, 2.5, -0.5, None, 5, None, 200, 1.0725, 5.7178),
]


def test_table3_csv_is_written_literally() -> None:
    assert table_csv(table3_table(ROWS)) == (
        "models,crops,cost,top5_error,compared_to_base,top1_error,top5_wrong,top1_wrong,images,top5_low,top5_high\n"
        "1,1,1,10.0700,0.0000,30.5000,5035,15250,50000,9.8090,10.3370\n"
        "1,10,10,10.0700,0.0000,30.0000,5035,15000,50000,9.8090,10.3370\n"
        "7,144,1008,6.6700,-3.4000,25.0000,3335,12500,50000,6.4543,6.8923\n"
        "2,3,6,33.3333,23.2633,66.6667,1,2,3,6.1492,79.2340\n"
        "3,144,432,2.5000,-0.5000,,5,,200,1.0725,5.7178\n"
    )


def test_the_title_says_of_how_many_images_the_rows_are() -> None:
    assert table3_table(ROWS).title == "Table 3: errors on 50000 images"
    assert table3_table([]).title == "Table 3: errors on 0 images"
