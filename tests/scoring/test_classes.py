"""Errors by class and confusions against pandas' cross tables."""

import numpy as np
import pandas as pd
import pytest

from ensemble_eval.scoring.classes import confused_pairs, errors_by_class, moved_images


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
