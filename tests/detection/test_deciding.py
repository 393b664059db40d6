"""Which rows of the table of detection there are, and what each image stores for them."""

import numpy as np

from ensemble_eval.detection.deciding import Configuration, configurations, detect_image
from ensemble_eval.detection.proposals import Proposals
from ensemble_eval.detection.region_scores import RegionScores


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
