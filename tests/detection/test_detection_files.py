from pathlib import Path

import numpy as np

from ensemble_eval.detection.formats import DETECT, PROPOSE, formats_in
from ensemble_eval.detection.writing import coco_results, submission_lines
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.scoring.average_precision import Detections

NOTHING = Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
TWO = Detections(np.asarray([[1.0, 2, 11, 22.5], [0, 0, 5, 6]]), np.asarray([1, 0]), np.asarray([0.5, 0.1234567]))


def test_results_of_coco_have_its_numbers_and_sides() -> None:
    assert coco_results(TWO, 8, [3, 18]) == [
        {"image_id": 8, "category_id": 18, "bbox": [1.0, 2.0, 10.0, 20.5], "score": 0.5},
        {"image_id": 8, "category_id": 3, "bbox": [0.0, 0.0, 5.0, 6.0], "score": 0.123457},
    ]
    assert coco_results(NOTHING, 8, [3, 18]) == []


def test_a_submission_counts_images_and_classes_from_1() -> None:
    assert submission_lines(TWO, 2) == [
        "2 2 0.500000 1.00 2.00 10.00 21.50\n",
        "2 1 0.123457 0.00 0.00 4.00 5.00\n",
    ]
    assert submission_lines(NOTHING, 1) == []


def test_the_formats_of_some_folders_are_those_that_any_of_them_holds(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert formats_in(one, other) == [RUN]
    (one / "detections").mkdir(parents=True)
    (other / "proposals" / "rcnn").mkdir(parents=True)
    assert formats_in(one, other) == [DETECT, PROPOSE["rcnn"]]
    (other / "predictions").mkdir()
    assert formats_in(one, other) == [RUN, DETECT, PROPOSE["rcnn"]]
