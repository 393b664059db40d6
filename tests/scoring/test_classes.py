"""Errors by class and confusions against pandas' cross tables."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from ensemble_eval.scoring.classes import (
    ClassErrors,
    ConfusedPair,
    Moved,
    class_analysis,
    confused_pairs,
    errors_by_class,
    moved_images,
)
from ensemble_eval.scoring.table3 import Decisions


def test_errors_by_class_are_those_of_a_group_by() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3, 7], 200)
    first, last = rng.random(200) < 0.4, rng.random(200) < 0.3
    frame = pd.DataFrame(
        {"label": labels, "first": first, "last": last, "fixed": first & ~last, "broken": last & ~first}
    )
    by_class = frame.groupby("label").agg("sum")
    found = errors_by_class(labels, first, last)
    assert [each.class_index for each in found] == [0, 2, 3, 7]
    assert [(each.first_wrong, each.last_wrong, each.fixed, each.broken) for each in found] == [
        tuple(row) for row in by_class.to_numpy().tolist()
    ]
    assert sum(each.images for each in found) == 200
    one = found[1]
    assert one.moved_points == pytest.approx(one.last_error_percent - one.first_error_percent)
    assert errors_by_class(labels[:0], first[:0], last[:0]) == []


def test_classes_without_errors_have_their_rows() -> None:
    # Class 3: two wrong, then one; class 5: none, then one; class 8: never wrong.
    labels = np.array([3, 3, 8, 5, 8])
    first, last = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    found = errors_by_class(labels, first, last)
    counts = [
        (each.class_index, each.images, each.first_wrong, each.last_wrong, each.fixed, each.broken)
        for each in found
    ]
    assert counts == [(3, 2, 2, 1, 1, 0), (5, 1, 0, 1, 0, 1), (8, 2, 0, 0, 0, 0)]


def test_confused_pairs_are_the_cells_of_the_cross_table_largest_first() -> None:
    rng = np.random.default_rng(1)
    labels, answered = rng.integers(0, 6, 300), rng.integers(0, 6, 300)
    table = pd.crosstab(labels, answered).to_numpy()
    cells = [(-int(table[pair]), *pair) for pair in np.ndindex(6, 6) if pair[0] != pair[1]]
    found = confused_pairs(labels, answered, labels != answered)
    assert len(cells) == 30
    assert [(-each.images, each.label, each.answered) for each in found] == sorted(cells)
    assert all(each.images_of_label == np.sum(labels == each.label) for each in found)
    assert confused_pairs(labels, labels, labels != labels) == []


def test_moved_images_are_named() -> None:
    first, last = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    moved = moved_images(["a", "b", "c", "d"], first, last)
    assert (moved.fixed, moved.broken) == (("b",), ("c",))


# One member with two schemes and four images.
WRONG = {5: np.array([[[1, 1, 0, 0], [0, 1, 0, 1]]], bool), 1: np.array([[[1, 1, 1, 0], [0, 1, 0, 1]]], bool)}


def _decisions(is_known: Mapping[int, list[bool]], answered: NDArray[np.int32] | None) -> Decisions:
    return Decisions(
        images=("w", "x", "y", "z"),
        labels=np.array([0, 0, 1, 1], np.int32),
        members=("a",),
        names=("a",),
        crops=(1, 10),
        wrong=WRONG,
        is_known={k: np.array([known]) for k, known in is_known.items()},
        answered=answered,
        confidence=None,
    )


def test_the_last_row_is_compared_with_the_first_in_both_errors() -> None:
    answered = np.array([[[2, 2, 2, 1], [0, 1, 1, 2]]], np.int32)
    found = class_analysis(_decisions({5: [True, True], 1: [True, True]}, answered))
    assert (str(found.first), str(found.last)) == ("1×1", "1×10")
    assert found.errors == {
        5: (ClassErrors(0, 2, 2, 1, 1, 0), ClassErrors(1, 2, 0, 1, 0, 1)),
        1: (ClassErrors(0, 2, 2, 1, 1, 0), ClassErrors(1, 2, 1, 1, 1, 1)),
    }
    assert found.moved == {5: Moved(("w",), ("z",)), 1: Moved(("w", "y"), ("z",))}
    assert found.confused == (ConfusedPair(0, 1, 1, 2), ConfusedPair(1, 2, 1, 2))


@pytest.mark.parametrize("known", [[True, False], [False, True]])
def test_an_error_that_one_of_the_two_rows_does_not_know_is_left_out(known: list[bool]) -> None:
    # That is the top-5 error; one model is named by the top-1 error, which has to be known.
    found = class_analysis(_decisions({5: known, 1: [True, True]}, None))
    assert list(found.errors) == list(found.moved) == [1]
    assert found.confused is None


def moved_decisions(rng: np.random.Generator, classes: int, moved: int, images: int = 50) -> Decisions:
    """Two rows that disagree on a fifth of the images of each class; the last fixes those of the first classes."""
    labels = np.repeat(np.arange(classes), images)
    discordant, fixed = rng.random(len(labels)) < 0.2, (labels < moved) | (rng.random(len(labels)) < 0.5)
    wrong = np.stack([discordant & fixed, discordant & ~fixed])[None]
    return replace(
        _decisions({5: [True, True], 1: [True, True]}, None),
        images=tuple(map(str, range(len(labels)))),
        labels=labels.astype(np.int32),
        wrong={5: wrong, 1: wrong},
    )


def test_classes_have_exact_tests_and_false_discovery_rates_for_dependent_ones_where_they_are() -> None:
    decisions = moved_decisions(np.random.default_rng(3), 12, 4)
    errors = class_analysis(decisions).errors[5]
    raw, rates = zip(*((each.p, each.rate) for each in errors), strict=True)
    assert raw == pytest.approx([mcnemar([[0, e.fixed], [e.broken, 0]], exact=True).pvalue for e in errors])
    assert rates == pytest.approx(list(multipletests(raw, method="fdr_bh")[1]))
    alone = class_analysis(replace(decisions, clusters=np.arange(600)))
    assert [each.p for each in alone.errors[5]] == pytest.approx(list(raw))
    several = replace(decisions, several_labels=tuple((int(each),) for each in decisions.labels))
    for found in (alone, class_analysis(several)):
        assert [each.rate for each in found.errors[5]] == pytest.approx(
            list(multipletests(raw, method="fdr_by")[1])
        )


@pytest.mark.slow
def test_of_the_classes_that_are_said_to_have_moved_one_in_twenty_has_not_at_most() -> None:
    """200 samples of 200 classes, of which 60 have moved; seed 7."""
    rng, shares, found = np.random.default_rng(7), list[float](), 0
    for _ in range(200):
        rates = np.array([each.rate for each in class_analysis(moved_decisions(rng, 200, 60)).errors[5]])
        said = np.flatnonzero(rates < 0.05)
        shares.append(float(np.mean(said >= 60)) if len(said) else 0.0)
        found += int(np.count_nonzero(said < 60))
    assert np.mean(shares) < 0.05
    assert found > 0.5 * 200 * 60
