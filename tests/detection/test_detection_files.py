import json

import numpy as np

from ensemble_eval.detection.files import coco_results, ilsvrc_submission
from ensemble_eval.scoring.average_precision import Detections

NOTHING = Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
TWO = Detections(np.asarray([[1.0, 2, 11, 22.5], [0, 0, 5, 6]]), np.asarray([1, 0]), np.asarray([0.5, 0.1234567]))
IDS = ({"a": 7, "b": 8, "c": 9, "d": 4}, {"cat": 3, "dog": 18})


def _results(*found: tuple[str, Detections]) -> str:
    return "".join(coco_results(found, ["cat", "dog"], IDS))


def test_pieces_join_to_the_json_of_one_list_whatever_images_lack_detections() -> None:
    entries = [
        {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
        for image in (8, 4)
        for category, bbox, score in ((18, [1.0, 2.0, 10.0, 20.5], 0.5), (3, [0.0, 0.0, 5.0, 6.0], 0.123457))
    ]
    found = [("a", NOTHING), ("b", TWO), ("c", NOTHING), ("d", TWO)]
    assert _results(*found) == json.dumps(entries) + "\n"
    assert _results(*found[:3]) == json.dumps(entries[:2]) + "\n"
    assert _results(("a", NOTHING)) == "[]\n"
    assert _results() == "[]\n"


def test_a_submission_counts_images_without_detections() -> None:
    lines = "".join(ilsvrc_submission([("a", NOTHING), ("b", TWO)])).splitlines()
    assert lines == ["2 2 0.500000 1.00 2.00 10.00 21.50", "2 1 0.123457 0.00 0.00 4.00 5.00"]
