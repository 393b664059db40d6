"""Errors by class and confusions against pandas' cross tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

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
