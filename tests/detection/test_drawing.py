import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.deciding import Classifier
from ensemble_eval.detection.writing import MAX_DRAWN, draw_detections
from ensemble_eval.scoring.average_precision import Detections

BLUE, ORANGE = (31, 119, 180), (255, 140, 0)


def _one(score: float, side: float) -> Detections:
    """A detection in the lower half, clear of the names."""
    box = np.asarray([[0.25, 0.5, 0.75, 0.9]]) * side
    return Detections(box, np.asarray([0]), np.asarray([score]))


def _lines_under(detections: Detections, side: int, classifier: Classifier, above: float | None) -> int:
    """Blue pixels that lie above one another on the lower edge of the detection."""
    image = torch.full((3, side, side), 255, dtype=torch.uint8)
    picture = np.asarray(draw_detections(image, detections, None, ["dog"], classifier, above))
    return int((picture[picture.shape[0] * 8 // 10 :, picture.shape[1] // 2] == BLUE).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("score", "classifier", "above", "drawn"),
    [
        (0.3, "softmax", None, True),
        (0.2, "softmax", None, False),
        (0.2, "softmax", 0.2, True),
        (0.3, "softmax", 0.31, False),
        # From a margin of 0 an SVM says that a region shows its class.
        (0.1, "svm", None, True),
        (-0.1, "svm", None, False),
        (-0.1, "svm", -1.0, True),
    ],
)
def test_what_is_surer_than_asked_for_is_drawn(
    score: float, classifier: Classifier, above: float | None, *, drawn: bool
) -> None:
    assert bool(_lines_under(_one(score, 480), 480, classifier, above)) == drawn


@pytest.mark.parametrize(("side", "width"), [(100, 2), (480, 2), (1920, 8)])
def test_lines_are_as_thick_beside_large_pictures_as_beside_small(side: int, width: int) -> None:
    assert _lines_under(_one(0.9, side), side, "softmax", None) == width


def test_a_margin_is_not_written_as_a_percentage(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _, __, text, **___: written.append(text))
    image = torch.zeros(3, 480, 480, dtype=torch.uint8)
    draw_detections(image, _one(1.305, 480), None, ["dog"], "svm")
    draw_detections(image, _one(0.305, 480), None, ["dog"])
    assert written == ["dog 1.30", "dog 30%"]


def test_only_the_surest_are_drawn() -> None:
    written = MAX_DRAWN + 3
    side = 40 * written
    lefts = 40.0 * np.arange(written)
    boxes = np.stack([lefts, np.full(written, side / 2), lefts + 30, np.full(written, side / 2 + 50)], axis=1)
    detections = Detections(boxes, np.zeros(written, np.int64), np.linspace(0.5, 0.9, written))
    image = torch.full((3, side, side), 255, dtype=torch.uint8)
    picture = np.asarray(draw_detections(image, detections, None, ["dog"]))
    row = (picture[side // 2 + 49] == BLUE).all(axis=-1)
    assert [bool(row[int(left) + 15]) for left in lefts] == [False] * 3 + [True] * MAX_DRAWN


def test_a_name_is_not_cut_off_at_the_right() -> None:
    def name(left: float, width: int) -> NDArray[np.uint8]:
        """The pixels of the name, from its first to its last column."""
        image = torch.full((3, 480, width), 255, dtype=torch.uint8)
        one = Detections(np.asarray([[left, 100.0, left + 20, 200]]), np.asarray([0]), np.asarray([0.5]))
        strip = np.asarray(draw_detections(image, one, None, ["a dog with a long name"]))[84:99]
        columns = np.nonzero((strip == BLUE).all(axis=-1).any(axis=0))[0]
        return strip[:, columns[0] : columns[-1] + 1]

    assert np.array_equal(name(460, 480), name(100, 480))


def test_objects_have_dashed_lines_along_their_four_sides() -> None:
    none = np.zeros(1, bool)
    objects = Objects(np.array([[100.0, 150, 300, 350]]), np.zeros(1, np.int64), none, none)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    image = torch.full((3, 480, 480), 255, dtype=torch.uint8)
    orange = (np.asarray(draw_detections(image, nothing, objects, ["dog"])) == ORANGE).all(axis=-1)
    rows, columns = np.nonzero(orange)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert np.abs(np.array(box) - [100, 150, 300, 350]).max() <= 2
    assert not orange[155:345, 105:295].any()
    for side in (
        orange[200:300, 98:103],
        orange[200:300, 298:303],
        orange[148:153, 150:250],
        orange[348:353, 150:250],
    ):
        drawn = side.any(axis=int(np.argmin(side.shape)))
        # Dashes and gaps of seven pixels.
        assert 0.3 < drawn.mean() < 0.7
