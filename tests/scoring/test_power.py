"""The power of the exact McNemar test with Holm's adjustment, against a simulation and against sums by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ensemble_eval.scoring.paired import adjusted, exact_mcnemar_p
from ensemble_eval.scoring.power import detectable_points

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"
SAMPLES = 20_000


def share_found(images: int, discordant_share: float, points: float, comparisons: int) -> float:
    """How often the first of several comparisons is found, in samples where the others have no difference."""
    rng = np.random.default_rng(30)
    found = np.empty((SAMPLES, comparisons))
    for comparison, difference in enumerate([points / 100] + [0.0] * (comparisons - 1)):
        shares = [(discordant_share + difference) / 2, (discordant_share - difference) / 2, 1 - discordant_share]
        fixed, broken, _ = rng.multinomial(images, shares, size=SAMPLES).T
        found[:, comparison] = exact_mcnemar_p(fixed, broken)
    return float(np.mean([adjusted(p_values)[0] < 0.05 for p_values in found]))


@pytest.mark.slow
@pytest.mark.parametrize(("images", "share"), [(200, 0.1), (1000, 0.05), (50_000, 0.02)])
def test_the_difference_is_found_in_80_of_100_simulated_samples(images: int, share: float) -> None:
    """20,000 samples of seed 30: three standard errors are 0.85 points. Other comparisons can only help."""
    points = detectable_points(images, share)
    assert points is not None
    assert share_found(images, share, points, 1) == pytest.approx(0.8, abs=0.0085)
    assert share_found(images, share, 0.8 * points, 1) < 0.72
    among = detectable_points(images, share, 5)
    assert among is not None
    assert 0.7915 <= share_found(images, share, among, 5) <= 0.83
    assert share_found(images, share, points, 5) < 0.72


def test_the_power_of_twelve_images_that_all_differ_is_a_sum_over_outcomes() -> None:
    """Every image is discordant, so the test rejects at 0, 1, 2, 10, 11 or 12 of 12: 2 × 79 / 4096 is 3.9%."""
    points = detectable_points(12, 1.0)
    assert points is not None
    of_base = (1 + points / 100) / 2
    power = sum(
        stats.binom.pmf(count, 12, of_base) for count in range(13) if stats.binomtest(count, 12).pvalue < 0.05
    )
    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("images", "share"), [(100, 0.0), (5, 1.0), (100, 0.02)])
def test_too_few_discordant_images_show_nothing(images: int, share: float) -> None:
    assert detectable_points(images, share) is None


def test_the_table_of_the_docs_is_computed() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (1|5) \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == 10
    for images, comparisons, cells in rows:
        for share, cell in zip((0.01, 0.02, 0.05, 0.1), cells.split(" | "), strict=True):
            points = detectable_points(int(images.replace(",", "")), share, int(comparisons))
            assert cell == ("none" if points is None else f"{points:.2f}")
