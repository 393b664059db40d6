import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ensemble_eval.scoring.intervals import error_interval_percent


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
