import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ensemble_eval.scoring.statistics import error_interval_percent, paired_difference_interval_percent


@pytest.mark.parametrize(
    ("wrong", "images"), [(0, 1), (1, 1), (0, 200), (200, 200), (7, 20), (3335, 50_000), (1, 50_000)]
)
def test_the_interval_is_scipys_wilson_interval(wrong: int, images: int) -> None:
    expected = stats.binomtest(wrong, images).proportion_ci(0.95, method="wilson")
    low, high = error_interval_percent(wrong, images)
    assert low == pytest.approx(100 * expected.low, abs=1e-9)
    assert high == pytest.approx(100 * expected.high, abs=1e-9)


@given(st.integers(1, 10**6), st.data())
def test_the_interval_holds_its_error_rate_and_stays_within_0_and_100(images: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, images))
    low, high = error_interval_percent(wrong, images)
    assert 0 <= low <= 100 * wrong / images <= high <= 100


Wrong = NDArray[np.bool_]


def _outcomes(both: int, only_base: int, only_other: int, neither: int) -> tuple[Wrong, Wrong]:
    """Which images each of two models has wrong, given how many fall into each cell."""
    cells = [both, only_base, only_other, neither]
    return np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)


def test_the_paired_interval_of_agrestis_two_surveys() -> None:
    # The prime minister's approval in two surveys of the same 1600 people (Agresti, Categorical Data
    # Analysis, table of matched pairs): 794, 150, 86, 570; the 95% interval is printed as 0.02 to 0.06.
    low, high = paired_difference_interval_percent(*_outcomes(794, 150, 86, 570))
    assert (round(low / 100, 2), round(high / 100, 2)) == (-0.06, -0.02)
    # By hand, with half an answer added to each cell: 64 / 1602 ± 1.96 × sqrt(237 - 64² / 1602) / 1602.
    assert low == pytest.approx(-5.8682, abs=1e-3)
    assert high == pytest.approx(-2.1218, abs=1e-3)


def test_the_paired_interval_is_mirrored_when_the_two_change_places() -> None:
    base, other = _outcomes(5, 9, 2, 30)
    low, high = paired_difference_interval_percent(base, other)
    assert paired_difference_interval_percent(other, base) == pytest.approx((-high, -low))
    assert low < 100 * (2 - 9) / 46 < high


def test_the_paired_interval_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    both, only_base, only_other = 0.08, 0.05, 0.02
    covered = 0
    draws = rng.multinomial(200, [both, only_base, only_other, 1 - both - only_base - only_other], size=2000)
    for cells in draws:
        low, high = paired_difference_interval_percent(*_outcomes(*(int(cell) for cell in cells)))
        covered += low <= 100 * (only_other - only_base) <= high
    # Standard error of the coverage: 0.5 percentage points.
    assert 0.935 <= covered / 2000 <= 0.97


def test_without_any_difference_the_paired_interval_is_centred_on_zero_and_not_empty() -> None:
    low, high = paired_difference_interval_percent(*_outcomes(10, 0, 0, 190))
    assert low == pytest.approx(-high)
    assert high > 0
