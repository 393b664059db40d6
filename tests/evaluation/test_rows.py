from dataclasses import replace

import numpy as np
import pytest
from builders import member_key, run_key

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import CROP_RANK_COLUMNS, columns_of
from ensemble_eval.scoring.crop_ranks import CropRanks

# Six classes, so that the top 5 leave one out. By hand: the mean of a and b is (0.25, 0.25, 0.2, 0.1, 0.1, 0.1).
SCORES = np.array([[0.5, 0.1, 0.2, 0.1, 0.05, 0.05], [0.0, 0.4, 0.2, 0.1, 0.15, 0.15]])
RESULT = ImageScores("ant/a.png", 1, {1: SCORES, 10: SCORES[::-1]}, 20)
BOTH = run_key(members=(member_key("a"), member_key("b")), scores=True)
ALONE = run_key(scores=True)


def test_there_is_a_row_for_every_member_and_for_the_ensemble_in_every_scheme() -> None:
    rows = list(rows_of(RESULT, BOTH, [1]))
    assert [(row["member"], row["crops"], row["rank"]) for row in rows] == [
        ("a", 1, 2),
        ("b", 1, 0),
        ("ensemble", 1, 1),
        ("a", 10, 0),
        ("b", 10, 2),
        ("ensemble", 10, 1),
    ]
    assert all((row["image"], row["label"]) == ("ant/a.png", 1) for row in rows)
    assert [list(row["top5"]) for row in rows[:3]] == [[0, 2, 1, 3, 4], [1, 2, 4, 5, 3], [0, 1, 2, 3, 4]]
    assert list(rows[2]["top5_probability"]) == pytest.approx([0.25, 0.25, 0.2, 0.1, 0.1])
    assert list(rows[2]["scores"]) == pytest.approx([0.25, 0.25, 0.2, 0.1, 0.1, 0.1])
    assert rows[2]["scores"].dtype == np.float32


def test_a_single_member_is_its_own_ensemble() -> None:
    result = ImageScores("a.png", 0, {1: SCORES[:1]}, 1)
    assert [row["member"] for row in rows_of(result, ALONE, [0])] == ["a"]


def test_scores_are_left_out_on_request() -> None:
    columns = {"image", "label", "labels", "member", "crops", "rank", "top5", "top5_probability"}
    assert all(row.keys() == columns for row in rows_of(RESULT, replace(BOTH, scores=False), [1]))


def test_ranks_come_from_the_double_precision_means() -> None:
    # These differ, but not in float32.
    scores = np.array([[0.5, 0.5 + 1e-12]])
    [row] = rows_of(ImageScores("a.png", 0, {1: scores}, 1), ALONE, [0])
    assert row["rank"] == 1
    assert row["scores"][0] == row["scores"][1]


def test_the_last_row_of_an_image_has_the_ranks_in_other_means() -> None:
    surface, groups, rules = (np.arange(size, dtype=np.uint16) for size in (6, 24, 18))
    ranks = CropRanks(surface.reshape(2, 3), groups.reshape(3, 4, 2), rules.reshape(3, 3, 2))
    *others, last = rows_of(replace(RESULT, crop_ranks=ranks), replace(BOTH, surface=True), [1])
    assert (last["member"], last["crops"]) == ("ensemble", 10)
    assert [last[column].tolist() for column in CROP_RANK_COLUMNS] == [
        surface.tolist(),
        groups.tolist(),
        rules.tolist(),
    ]
    assert not any(column in row for row in others for column in CROP_RANK_COLUMNS)


def test_rows_have_the_columns_of_the_schema() -> None:
    key = replace(BOTH, scope=Scope(several_labels=True), surface=True)
    ranks = CropRanks(*(np.zeros((1, 1, 1), np.uint16) for _ in range(3)))
    *_, last = rows_of(replace(RESULT, crop_ranks=ranks), key, [1])
    assert set(last) == set(columns_of(key))
    assert set(columns_of(key)) - set(columns_of(BOTH)) == {"labels", *CROP_RANK_COLUMNS}
