import math
from collections.abc import Iterable, Sequence

import numpy as np

from ensemble_eval.datasets.boxes import Boxes, Objects
from ensemble_eval.scoring.coverage import OVERLAPS, Coverage


def coverage(images: Iterable[tuple[Objects, Boxes]], budgets: Sequence[int]) -> Coverage:
    found = Coverage(budgets)
    for shown, proposals in images:
        found.add(shown, proposals)
    return found


def _boxes(rng: np.random.Generator, count: int) -> Boxes:
    corners = rng.uniform(0, 50, (count, 2))
    return np.hstack([corners, corners + rng.uniform(5, 50, (count, 2))])


def _overlap(one: Boxes, other: Boxes) -> float:
    """Of two boxes, the slow obvious way."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(both / (sum(areas) - both))


def test_coverage_is_that_of_the_slow_obvious_loop() -> None:
    rng = np.random.default_rng(3)
    images = []
    for objects, proposals in ((2, 30), (1, 5), (0, 8), (3, 0), (4, 60)):
        ignored = rng.random(objects) < 0.3
        shown = Objects(_boxes(rng, objects), np.zeros(objects, int), ignored, np.zeros(objects, bool))
        images.append((shown, _boxes(rng, proposals)))
    budgets = (1, 3, 10, 1000)
    found = coverage(images, budgets)
    wanted = [(box, boxes) for shown, boxes in images for box in shown.boxes[~shown.ignored]]
    assert found.objects == len(wanted)
    assert found.boxes_per_image == (30 + 5 + 8 + 0 + 60) / 5
    for row, budget in enumerate(budgets):
        best = [max((_overlap(box, each) for each in boxes[:budget]), default=0.0) for box, boxes in wanted]
        shares = [np.mean([each >= overlap for each in best]) for overlap in OVERLAPS]
        assert math.isclose(found.at_half[row], shares[0])
        assert math.isclose(found.mean[row], float(np.mean(shares)))


def test_a_box_that_overlaps_by_exactly_half_finds_its_object() -> None:
    shown = Objects(np.array([[0.0, 0, 10, 10]]), np.zeros(1, int), np.zeros(1, bool), np.zeros(1, bool))
    assert coverage([(shown, np.array([[0.0, 0, 10, 5]]))], [1]).at_half[0] == 1
    assert coverage([(shown, np.array([[0.0, 0, 10, 4.99]]))], [1]).at_half[0] == 0


def test_the_mean_is_over_ten_overlaps_from_a_half_to_95_percent() -> None:
    """By hand: an overlap of 0.72 reaches 0.5, 0.55, 0.6, 0.65 and 0.7; one of 0.96 all ten."""
    shown = Objects(np.array([[0.0, 0, 100, 100]]), np.zeros(1, int), np.zeros(1, bool), np.zeros(1, bool))
    for height, reached in ((72, 5), (96, 10), (94, 9), (52, 1), (48, 0)):
        found = coverage([(shown, np.array([[0.0, 0, 100, height]]))], [1])
        assert math.isclose(found.mean[0], reached / 10)


def test_without_objects_nothing_is_known() -> None:
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0, bool))
    found = coverage([(nothing, np.array([[0.0, 0, 1, 1]]))], [1, 2])
    assert np.isnan(found.at_half).all()
    assert found.objects == 0


def test_without_images_there_are_no_proposals() -> None:
    found = coverage([], [1])
    assert (found.objects, found.boxes_per_image) == (0, 0)
    assert np.isnan(found.mean).all()
