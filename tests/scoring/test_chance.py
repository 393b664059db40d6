"""Members at chance are named with the likely cause, and no others."""

import numpy as np
import pytest
from scipy import stats

from ensemble_eval.scoring.chance import CHANCE_IMAGES, ChanceWatch, chance_of_as_many


@pytest.mark.parametrize(("right", "rate"), [(0, 0.001), (3, 0.001), (43, 1 / 7), (70, 1 / 7), (300, 0.5)])
def test_the_tail_is_scipys(right: int, rate: float) -> None:
    expected = stats.binom.sf(right - 1, 300, rate)
    assert chance_of_as_many(right, 300, rate) == pytest.approx(expected, rel=1e-9)


def test_a_class_that_is_alone_is_always_right() -> None:
    assert chance_of_as_many(300, 300, 1.0) == 1


def test_right_images_and_sureness_are_counted_from_nought() -> None:
    # Of the first 300 images every seventh is 42, and a third of them are 0.6 and two thirds 0.3 sure.
    watch = ChanceWatch(["good", "lost"], 7)
    sentences = [
        sentence
        for number in range(1, 301)
        for sentence in watch.add([True, number % 7 == 0], [0.9, 0.6 if number % 3 == 0 else 0.3])
    ]
    assert [sentence.partition(",")[0] for sentence in sentences] == [
        "member lost is right on 42 of the first 300 images"
    ]
    assert "it is sure of itself (0.40)" in sentences[0]


def test_chance_ends_where_guessing_is_as_good_once_in_a_thousand_times() -> None:
    # Guessing among 7 classes gets at least 63 of 300 right with probability 0.00101, and 64 with 0.00061.
    for right, named in ((63, True), (64, False)):
        watch = ChanceWatch(["good", "lost"], 7)
        found = [each for number in range(300) for each in watch.add([True, number < right], None)]
        assert bool(found) is named


def _sentences(rates: dict[str, float], sureness: dict[str, float] | None, classes: int) -> list[str]:
    rng = np.random.default_rng(0)
    watch = ChanceWatch(list(rates), classes)
    found: list[str] = []
    for _ in range(CHANCE_IMAGES + 50):
        right = [bool(rng.random() < rate) for rate in rates.values()]
        found += watch.add(right, list(sureness.values()) if sureness else None)
    return found


@pytest.mark.parametrize("classes", [7, 1000])
def test_a_member_at_chance_is_named_once_with_the_likely_cause(classes: int) -> None:
    rates = {"good": 0.7, "poor": 0.4, "lost": 1 / classes}
    [sentence] = _sentences(rates, {"good": 0.8, "poor": 0.5, "lost": 0.7}, classes)
    assert sentence.startswith("member lost is right on ")
    assert "it is sure of itself (0.70), so that likely its classes are in another order" in sentence
    [sentence] = _sentences(rates, {"good": 0.8, "poor": 0.5, "lost": 0.02}, classes)
    assert "it is sure of nothing (0.02), so that likely its channels, scale or mean" in sentence
    [sentence] = _sentences(rates, None, classes)
    assert "likely its classes are in another order, or its channels" in sentence


def test_where_all_members_are_at_chance_nobody_is_named() -> None:
    assert _sentences({"a": 1 / 7, "b": 1 / 7}, None, 7) == []


def test_where_none_is_at_chance_nobody_is_named() -> None:
    assert _sentences({"a": 0.5, "b": 0.3}, None, 7) == []
