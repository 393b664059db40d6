"""Sentences on a run: no stronger than their tests."""

from pathlib import Path

import numpy as np
import pytest
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.reports.page import claim, claims
from ensemble_eval.results.analyses import analyse
from ensemble_eval.scoring.paired import paired_differences
from ensemble_eval.scoring.table3 import Configuration

ONE, SEVEN = Configuration(1, 1, "a"), Configuration(7, 144, "ensemble")


def whole(fixed: int, broken: int, images: int, margin: float = 0.5) -> str:
    wrong = np.zeros((2, images), bool)
    wrong[0, :fixed] = True
    wrong[1, fixed : fixed + broken] = True
    [pair] = paired_differences(wrong, [(0, 1)], margin_points=margin, resamples=0)
    return claim(pair, ONE, SEVEN)


def said(fixed: int, broken: int, images: int, margin: float = 0.5) -> str:
    return whole(fixed, broken, images, margin).partition(":")[0]


def test_better_and_worse_are_said_where_a_test_says_so() -> None:
    assert said(40, 5, 1000) == "7×144 is better than 1×1"
    assert said(5, 40, 1000) == "7×144 is worse than 1×1"
    assert said(100, 50, 50_000) == "7×144 is better than 1×1, but by less than 0.5 points"


def test_equal_is_said_within_a_margin_only() -> None:
    assert said(20, 20, 10_000) == "7×144 and 1×1 are equal within 0.5 points"
    assert said(3, 2, 100) == "7×144 and 1×1 cannot be told apart, which does not mean that they are equal"


def test_what_so_many_images_would_show_is_said_where_rows_cannot_be_told_apart() -> None:
    """As docs/statistics.md has it for 500 images, of which one row alone gets 5% wrong."""
    assert whole(13, 12, 500).endswith("so many images show a difference from 2.9 points on in 80% of cases.")
    assert whole(3, 2, 100).endswith("so few images that only one row gets wrong show no difference reliably.")
    assert "80% of cases" not in whole(40, 5, 1000)


@pytest.mark.slow
def test_the_adjustment_is_said(tmp_path: Path) -> None:
    found = analyse(stored_run(tmp_path, simulated_scores(30, 3)))
    assert len(claims(found)) == 4
    assert "all 6 pairs of rows, the intervals are not" in claims(found)[-1]
