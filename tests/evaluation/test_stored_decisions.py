from pathlib import Path

import numpy as np
import pytest
from builders import run_key

from ensemble_eval.datasets.scope import Scope
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.evaluation.decisions import read_decisions
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN, RunKey
from ensemble_eval.scoring.table3 import TOP_1, TOP_5
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

# One member and one crop, so that an image has a single row. The second image's label is behind five others.
# The best classes are numbers that no position is, because memory that is not written may hold earlier ones.
SCORES = {"a.png": [0.1, 0.05, 0.2, 0.1, 0.5, 0.05], "b.png": [0.2, 0.15, 0.2, 0.3, 0.1, 0.05]}
LABELS = {"a.png": [2, 4], "b.png": [5]}


def _stored(out: Path, images: list[str]) -> Store[RunKey]:
    store = Store(out, RUN, run_key(images=2, classes=6, scope=Scope(several_labels=True)))
    for image in images:
        scores = ImageScores(image, LABELS[image][0], {1: np.array([SCORES[image]])}, passes=1)
        store.write(Part(list(rows_of(scores, store.key, LABELS[image])), [image]))
    store.open()
    return store


def test_a_run_with_one_row_an_image_has_its_labels_ranks_and_answers(tmp_path: Path) -> None:
    store = _stored(tmp_path, ["b.png", "a.png"])
    decisions = read_decisions(store.tables, store.key, ["a.png", "b.png"], with_answers=True)
    assert decisions.several_labels == ([2, 4], [5])
    assert decisions.labels.tolist() == [2, 5]
    assert decisions.ranks is not None
    assert decisions.ranks.tolist() == [[[0, 5]]]
    assert {k: decisions.wrong[k].tolist() for k in (TOP_1, TOP_5)} == {1: [[[False, True]]], 5: [[[False, True]]]}
    assert decisions.answered is not None
    assert decisions.answered.tolist() == [[[4, 3]]]
    assert decisions.confidence is not None
    assert decisions.confidence.ravel() == pytest.approx([0.5, 0.3])


def test_without_answers_the_decisions_are_the_same(tmp_path: Path) -> None:
    store = _stored(tmp_path, ["a.png", "b.png"])
    decisions = read_decisions(store.tables, store.key, ["a.png", "b.png"], with_answers=False)
    assert (decisions.answered, decisions.confidence) == (None, None)
    assert decisions.wrong[TOP_5].tolist() == [[[False, True]]]


def test_an_image_without_rows_is_an_error(tmp_path: Path) -> None:
    store = _stored(tmp_path, ["a.png"])
    with pytest.raises(EnsembleEvalError, match="do not hold each of 2 images exactly once"):
        read_decisions(store.tables, store.key, ["a.png", "b.png"], with_answers=False)


def test_an_error_is_known_if_the_decision_about_every_image_is(tmp_path: Path) -> None:
    key = run_key(images=2, until_decided=("top-5",))
    store = Store(tmp_path, RUN, key)
    rows = [
        {"image": image, "member": "a", "crops": 1, "label": 0, "top5_correct": top5, "top1_correct": top1}
        for image, top5, top1 in [("a.png", True, True), ("b.png", False, None)]
    ]
    store.write(Part(rows, ["a.png", "b.png"]))
    store.open()
    decisions = read_decisions(store.tables, key, ["a.png", "b.png"], with_answers=True)
    assert decisions.wrong[TOP_5].tolist() == [[[False, True]]]
    assert (decisions.is_known[TOP_5].tolist(), decisions.is_known[TOP_1].tolist()) == ([[True]], [[False]])
    assert (decisions.ranks, decisions.answered) == (None, None)
