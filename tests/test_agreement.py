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


def test_runs_over_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not about the same images"):
        disagreement(_frame([True, True]), _frame([True]))
