from dataclasses import replace

import numpy as np

from ensemble_eval.results.differences_text import (
    DIFFERENCE_HEADER,
    comparisons_text,
    difference_cells,
    p_value,
    signed,
)
from ensemble_eval.scoring.paired import paired_differences

WRONG = np.repeat([[True, True, False, False], [True, False, True, False]], [10, 30, 4, 156], axis=1)


def test_a_difference_has_a_cell_for_each_title() -> None:
    [found] = paired_differences(WRONG, [(0, 1)], seed=1)
    found = replace(found, low_points=-18.921, high_points=-7.83)
    bootstrapped = replace(found, bootstrap_low_points=-18.004, bootstrap_high_points=-8.0)
    assert dict(zip(DIFFERENCE_HEADER, difference_cells(bootstrapped), strict=True)) == {
        "errors": "20.00% to 7.00%",
        "fixed": "30",
        "broken": "4",
        "difference": "-13.00",
        "95% interval": "-18.92 to -7.83",
        "bootstrap": "-18.00 to -8.00",
        "McNemar p": "<0.001",
        "adjusted p": "<0.001",
        "verdict": "better",
    }
    assert difference_cells(replace(found, bootstrap_low_points=None, bootstrap_high_points=None))[5] == "–"


def test_numbers_are_as_short_as_they_may_be() -> None:
    assert [signed(points) for points in (0.004, -0.004, 0.005001, -12.345)] == ["0.00", "0.00", "+0.01", "-12.35"]
    assert [p_value(p) for p in (0.00099, 0.001, 0.04567, 0.5, 1)] == ["<0.001", "0.001", "0.046", "0.5", "1"]


def test_the_sentence_says_what_was_adjusted() -> None:
    assert comparisons_text(8, 0.5) == (
        "better and worse by the exact McNemar test at 5%, equal within 0.5 points by two one-sided tests at 5%, "
        "both adjusted by Holm over the 8 rows; 95% intervals are Tango's score intervals, paired by image"
    )
    assert "of the one row" in comparisons_text(1, 1)
