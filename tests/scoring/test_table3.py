import dataclasses

import pandas as pd
import pytest

from ensemble_eval.paper.published import TABLE_3
from ensemble_eval.scoring.table3 import Row, gain, one_model_member, table3

MEMBERS = ["a", "b"]


def _predictions(ranks: dict[tuple[str, int], list[int]]) -> pd.DataFrame:
    """One row per (member, crops) and image, given the ranks of each image's label."""
    return pd.concat(
        pd.DataFrame({"image": range(len(values)), "member": member, "crops": crops, "rank": values})
        for (member, crops), values in ranks.items()
    )


RANKS = {
    ("a", 1): [0, 1, 5, 6],
    ("a", 10): [0, 1, 2, 6],
    ("b", 1): [0, 0, 5, 6],
    ("b", 10): [0, 0, 5, 4],
    ("ensemble", 1): [0, 0, 0, 5],
    ("ensemble", 10): [0, 0, 0, 0],
}


def test_rows_are_one_model_and_all_models_with_every_scheme() -> None:
    rows = table3(_predictions(RANKS), MEMBERS)
    numbers = [(row.models, row.crops, row.cost, row.top5_wrong, row.top1_wrong, row.images) for row in rows]
    assert numbers == [(1, 1, 1, 2, 2, 4), (1, 10, 10, 1, 2, 4), (2, 1, 2, 1, 1, 4), (2, 10, 20, 0, 0, 4)]
    errors = [(row.top5_error, row.compared_to_base, row.top1_error) for row in rows]
    assert errors == [(50, 0, 50), (25, -25, 50), (25, -25, 25), (0, -50, 0)]


def test_intervals_are_wilsons() -> None:
    # One of four wrong: (0.25 + z²/8 ± z × sqrt(0.25 × 0.75 / 4 + z²/64)) / (1 + z²/4) with z = 1.96.
    row = table3(_predictions(RANKS), MEMBERS)[1]
    assert row.top5_low == pytest.approx(4.56, abs=0.01)
    assert row.top5_high == pytest.approx(69.94, abs=0.01)


def test_the_rows_do_not_depend_on_the_order_of_the_predictions() -> None:
    predictions = _predictions(RANKS)
    shuffled = predictions.sample(frac=1, random_state=3)
    assert table3(shuffled, MEMBERS) == table3(predictions, MEMBERS)


def test_one_model_rows_use_the_member_with_the_lowest_one_crop_top1_error() -> None:
    # b has the lower one-crop top-1 error, although a has the lower top-5 error and ten-crop errors.
    ranks = {("a", 1): [1, 1, 1], ("b", 1): [0, 9, 9], ("a", 10): [0, 0, 0], ("b", 10): [9, 9, 9]}
    assert one_model_member(_predictions(ranks), MEMBERS) == "b"


@pytest.mark.parametrize("members", [["a", "b"], ["b", "a"]])
def test_a_tie_goes_to_the_manifests_first_member(members: list[str]) -> None:
    assert one_model_member(_predictions({("a", 1): [0, 1], ("b", 1): [1, 0]}), members) == members[0]


def test_a_single_member_has_no_ensemble_rows() -> None:
    rows = table3(_predictions({("a", 1): [0, 7], ("a", 10): [0, 0]}), ["a"])
    assert [(row.models, row.crops, row.top5_wrong) for row in rows] == [(1, 1, 1), (1, 10, 0)]


def test_incomplete_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="incomplete"):
        table3(_predictions(RANKS | {("ensemble", 10): [0, 0, 0]}), MEMBERS)
    with pytest.raises(ValueError, match="no image was evaluated"):
        table3(pd.DataFrame(columns=["image", "member", "crops", "rank"]), MEMBERS)


def test_other_rows_can_be_asked_for_and_the_base_stays() -> None:
    some = RANKS | {("a+b", 1): [0, 0, 9, 9], ("a+b", 10): [9, 9, 9, 0]}
    rows = table3(_predictions(some), MEMBERS, {"a+b": 2, "a": 1, "b": 1})
    numbers = [(row.models, row.crops, row.top5_wrong, row.compared_to_base) for row in rows]
    # b is the base, with two of four wrong.
    assert numbers == [(2, 1, 2, 0), (2, 10, 3, 25), (1, 1, 2, 0), (1, 10, 1, -25), (1, 1, 2, 0), (1, 10, 1, -25)]
    by_default = table3(_predictions(some), MEMBERS)
    assert by_default == table3(_predictions(some), MEMBERS, {"b": 1, "ensemble": 2})
    assert by_default == table3(_predictions(RANKS), MEMBERS)
    with pytest.raises(ValueError, match="incomplete"):
        table3(_predictions(some), MEMBERS, {"nobody": 1})


def _published_wrong(error_percent: float) -> list[int]:
    wrong = round(error_percent * 500)
    return [9] * wrong + [0] * (50_000 - wrong)


def test_the_papers_own_table_3_recomputed_corrects_its_last_difference() -> None:
    members = [f"m{index}" for index in range(7)]
    ranks = {("m0" if models == 1 else "ensemble", crops): error for (models, crops), error in TABLE_3.items()}
    others = {(member, crops): 100.0 for member in members[1:] for crops in (1, 10, 144)}
    predictions = _predictions({key: _published_wrong(error) for key, error in (ranks | others).items()})
    rows: list[Row] = table3(predictions, members)
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
    # b stands for one model: two of four wrong; the ensemble with ten crops: none. Agresti and Min: with half
    # an image more in each outcome, 2.5 won and 0.5 lost of 6: -2/6 ± 1.96 × sqrt(3 - 4/6) / 6.
    shuffled = _predictions(RANKS).sample(frac=1, random_state=5)
    result = gain(shuffled, MEMBERS)
    assert (result.difference, result.relative) == (-50, -100)
    assert result.low == pytest.approx(-83.23, abs=0.01)
    assert result.high == pytest.approx(16.56, abs=0.01)


def test_a_base_without_errors_has_no_relative_gain() -> None:
    perfect = {key: [0, 0] for key in RANKS}
    assert gain(_predictions(perfect), MEMBERS).relative is None


def _decisions(ranks: dict[tuple[str, int], list[int]]) -> pd.DataFrame:
    """The same predictions as a run that stops when decided stores them: top-1 with one crop only."""
    frame = _predictions(ranks)
    frame["top5_correct"] = frame["rank"] < 5
    frame["top1_correct"] = (frame["rank"] < 1).astype(object).where(frame["crops"] == 1, None)
    return frame.drop(columns="rank")


def test_decisions_give_the_same_top5_columns_as_ranks() -> None:
    full, decided = table3(_predictions(RANKS), MEMBERS), table3(_decisions(RANKS), MEMBERS)
    unknown = [dataclasses.replace(row, top1_error=None, top1_wrong=None) for row in full if row.crops == 10]
    assert [row for row in decided if row.crops == 10] == unknown
    assert [row for row in decided if row.crops == 1] == [row for row in full if row.crops == 1]
    assert gain(_decisions(RANKS), MEMBERS) == gain(_predictions(RANKS), MEMBERS)


def test_a_decision_that_is_missing_is_no_right_one() -> None:
    frame = _decisions(RANKS)
    frame["top1_correct"] = None
    with pytest.raises(ValueError, match="some decisions are missing"):
        one_model_member(frame, MEMBERS)


@pytest.mark.parametrize("column", ["top1_correct", "top5_correct"])
@pytest.mark.parametrize("image", [0, 3])
def test_one_missing_decision_among_known_ones_is_no_right_one(column: str, image: int) -> None:
    # Of b with one crop, which is the base, one image has no decision; the other three have one.
    frame = _decisions(RANKS).astype({"top5_correct": object})
    frame.loc[(frame["member"] == "b") & (frame["crops"] == 1) & (frame["image"] == image), column] = None
    with pytest.raises(ValueError, match="some decisions are missing"):
        table3(frame, MEMBERS)


def test_top1_errors_known_of_some_images_only_are_left_out() -> None:
    frame = _decisions(RANKS)
    # With ten crops, image 0 alone has a decision on top-1.
    frame.loc[(frame["crops"] == 10) & (frame["image"] == 0), "top1_correct"] = True
    rows = [row for row in table3(frame, MEMBERS) if row.crops == 10]
    assert [(row.top1_error, row.top1_wrong) for row in rows] == [(None, None), (None, None)]
    assert [(row.top5_error, row.top5_wrong) for row in rows] == [(25, 1), (0, 0)]
