"""Which rows of the table of detection there are, and what each image stores for them."""

from collections.abc import Sequence

import numpy as np
import pytest

from ensemble_eval.detection.deciding import (
    Classifier,
    Configuration,
    configurations,
    detect_image,
    detections_of,
)
from ensemble_eval.detection.proposals import Proposals
from ensemble_eval.detection.region_scores import RegionScores
from ensemble_eval.scoring.average_precision import Detections


def test_svms_are_rows_of_one_model_each_and_come_last() -> None:
    assert configurations(["rcnn", "doubled"], 6, with_svm=True) == [
        Configuration(("rcnn",), 1),
        Configuration(("doubled",), 1),
        Configuration(("rcnn",), 6),
        Configuration(("doubled",), 6),
        Configuration(("rcnn",), 1, "svm"),
        Configuration(("doubled",), 1, "svm"),
    ]


def test_each_row_stores_its_models_and_the_scores_that_are_its_own() -> None:
    box = np.array([[0.0, 0, 50, 50]])
    scores = RegionScores(
        first_model=np.array([[0.75, 0.25]], np.float32),
        mean_softmax=np.array([[0.5, 0.5]]),
        margins=np.array([[-0.25, -3.0]], np.float32),
    )
    found = detect_image(
        "a.png",
        {"rcnn": Proposals(box, np.zeros(1))},
        scores,
        configurations(["rcnn"], 6, with_svm=True),
        num_classes=1,
    )
    stored = [(row["classifier"], row["models"], row["regions"], row["scores"].tolist()) for row in found]
    assert stored == [("softmax", 1, 1, [0.75]), ("softmax", 6, 1, [0.5]), ("svm", 1, 1, [-0.25])]


def _rows(
    boxes: Sequence[tuple[int, ...]], scores: Sequence[float], classifier: Classifier = "softmax"
) -> Detections:
    """The detections of one class among regions with some scores, as they are read from what is stored."""
    column = np.array(scores, np.float32)[:, None]
    given = RegionScores(np.hstack([column, 1 - column]), np.hstack([column, 1 - column]), column)
    proposals = Proposals(np.array(boxes, float), np.zeros(len(boxes)))
    [row] = detect_image("a.png", {"rcnn": proposals}, given, [Configuration(("rcnn",), 1, classifier)], 1)
    return detections_of(row)


def test_the_worse_of_two_boxes_goes_where_they_overlap_by_more_than_three_tenths() -> None:
    # Shifted by 55 of 100 pixels, 45 of 155 are of both: 0.29. By 52 they are 48 of 152: 0.32.
    best, apart, near = (0, 0, 100, 100), (55, 0, 155, 100), (52, 0, 152, 100)
    found = _rows([apart, best], [0.5, 0.75])
    assert found.boxes.tolist() == [list(best), list(apart)]
    assert (found.classes.tolist(), found.scores.tolist()) == ([0, 0], [0.75, 0.5])
    assert _rows([near, best], [0.5, 0.75]).boxes.tolist() == [list(best)]


@pytest.mark.parametrize(("classifier", "kept", "left_out"), [("softmax", 0.0101, 0.0099), ("svm", -0.99, -1.01)])
def test_low_scores_are_no_detections(classifier: Classifier, kept: float, left_out: float) -> None:
    found = _rows([(0, 0, 50, 50), (100, 100, 150, 150)], [left_out, kept], classifier)
    assert found.boxes.tolist() == [[100, 100, 150, 150]]
    assert len(_rows([(0, 0, 50, 50)], [left_out], classifier).boxes) == 0


def test_an_image_has_at_most_a_hundred_detections_of_a_class() -> None:
    boxes = [(20 * column, 20 * row, 20 * column + 10, 20 * row + 10) for column in range(51) for row in range(2)]
    scores = np.linspace(0.1, 0.9, 102)
    found = _rows(boxes, scores.tolist())
    assert found.scores.tolist() == pytest.approx(scores[:1:-1].tolist())
