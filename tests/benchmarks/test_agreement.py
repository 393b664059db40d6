import pandas as pd
import pytest

from benchmarks.agreement import disagreement


def _frame(correct: list[bool], member: str = "a") -> pd.DataFrame:
    count = len(correct)
    return pd.DataFrame(
        {
            "image": range(count),
            "member": member,
            "crops": 1,
            "top5_correct": correct,
            "top1_correct": [False] * count,
        }
    )


def test_changed_decisions_are_counted_by_row() -> None:
    table = disagreement(_frame([True, False, True]), _frame([True, True, False])[::-1])
    assert table.to_dict("list") == {"decisions": [3], "top-5 changed": [2], "top-1 changed": [0]}


def test_changed_ranks_are_counted_and_scores_compared_where_both_have_them() -> None:
    one, other = _frame([True, True]), _frame([True, True])
    one["rank"], other["rank"] = [0, 1], [0, 2]
    one["scores"], other["scores"] = [[0.75, 0.25], [0.5, 0.5]], [[0.75, 0.25], [0.25, 0.75]]
    table = disagreement(one, other)
    assert table["rank changed"].tolist() == [1]
    assert table["scores differ by"].tolist() == [0.25]
    assert "rank changed" not in disagreement(one, _frame([True, True]))


def test_runs_over_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not about the same images"):
        disagreement(_frame([True, True]), _frame([True]))
