import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.scoring.average_precision import (
    COCO,
    COCO_50,
    ILSVRC,
    VOC,
    Detections,
    Matching,
    Rule,
    average_precisions,
    overlaps,
)

Images = list[tuple[Objects, Detections]]


def objects(*boxes: tuple[float, ...], ignored: list[int] | None = None) -> Objects:
    count = len(boxes)
    hidden = np.isin(np.arange(count), ignored or [])
    no_crowd = np.zeros(count, bool)
    return Objects(np.array(boxes, float).reshape(count, 4), np.zeros(count, np.int64), hidden, no_crowd)


def detections(*boxes: tuple[float, ...], scores: list[float]) -> Detections:
    count = len(boxes)
    return Detections(np.array(boxes, float).reshape(count, 4), np.zeros(count, np.int64), np.array(scores, float))


def matched(images: Images, num_classes: int, *rules: Rule) -> Matching:
    matching = Matching(num_classes, rules)
    for shown, found in images:
        matching.add(shown, found)
    return matching


def precision(images: Images, rule: Rule = ILSVRC, num_classes: int = 1) -> list[float]:
    values: list[float] = average_precisions(matched(images, num_classes, rule).matches(rule), rule).tolist()
    return values


# --- ILSVRC's rule, worked out by hand ---


def test_two_of_three_objects_with_a_miss_between_them_is_five_ninths() -> None:
    """Precision 1 at recall 1/3, and 2/3 at recall 2/3; the third is never found: (1 + 2/3) / 3."""
    shown = objects((0, 0, 40, 40), (100, 0, 140, 40), (200, 0, 240, 40))
    found = detections((0, 0, 40, 40), (0, 100, 40, 140), (100, 0, 140, 40), scores=[0.9, 0.8, 0.7])
    assert precision([(shown, found)]) == [pytest.approx(5 / 9)]


def test_less_overlap_is_asked_of_small_objects() -> None:
    """An object of 10 x 10 pixels needs 100 / 400 = 0.25; one of 100 x 100 the usual 0.5."""
    small, large = objects((0, 0, 10, 10)), objects((0, 0, 100, 100))
    assert precision([(small, detections((6, 0, 16, 10), scores=[1]))]) == [1.0]  # 40 / 160 = 0.25
    assert precision([(small, detections((7, 0, 17, 10), scores=[1]))]) == [0.0]  # 30 / 170
    assert precision([(large, detections((34, 0, 134, 100), scores=[1]))]) == [0.0]  # 66 / 134 = 0.493
    assert precision([(large, detections((33, 0, 133, 100), scores=[1]))]) == [1.0]  # 67 / 133 = 0.504


def test_a_second_detection_takes_the_neighbour_by_ilsvrc_and_is_a_miss_by_voc() -> None:
    """Both detections lie nearest to the first object; the second overlaps its neighbour by 35 / 65 = 0.54."""
    shown = objects((0, 0, 50, 100), (15, 0, 65, 100))
    found = detections((0, 0, 50, 100), (0, 0, 50, 100), scores=[0.9, 0.8])
    assert precision([(shown, found)], ILSVRC) == [1.0]
    assert precision([(shown, found)], VOC) == [0.5]


def test_an_object_found_twice_is_one_hit_and_one_miss() -> None:
    shown = objects((0, 0, 40, 40))
    found = detections((0, 0, 40, 40), (1, 0, 41, 40), scores=[0.5, 0.9])
    matches = matched([(shown, found)], 1, ILSVRC).matches(ILSVRC)
    assert matches.hits.tolist() == [True, False]


def test_a_difficult_object_counts_neither_for_nor_against() -> None:
    shown = objects((0, 0, 40, 40), (100, 0, 140, 40), ignored=[0])
    found = detections((0, 0, 40, 40), (100, 0, 140, 40), scores=[0.9, 0.8])
    for rule in (ILSVRC, VOC, COCO_50):
        assert precision([(shown, found)], rule) == [pytest.approx(1.0)]


def test_a_detection_of_one_pixel_within_a_crowd_is_no_miss() -> None:
    """By COCO all of it lies in the crowd; before the hit it would else halve the precision."""
    nobody, crowd = np.zeros(2, np.int64), np.array([True, False])
    shown = Objects(np.array([[0.0, 0, 50, 50], [100, 0, 140, 40]]), nobody, crowd, crowd)
    found = detections((5, 5, 6, 6), (100, 0, 140, 40), scores=[0.9, 0.8])
    assert precision([(shown, found)], COCO_50) == [pytest.approx(1.0)]
    outside = detections((60, 5, 61, 6), (100, 0, 140, 40), scores=[0.9, 0.8])
    assert precision([(shown, outside)], COCO_50) == [pytest.approx(0.5)]


def test_nothing_to_find_is_not_a_number_and_nothing_found_is_nought() -> None:
    shown, nothing = objects((0, 0, 40, 40)), detections(scores=[])
    values = precision([(shown, nothing)], num_classes=2)
    assert values[0] == 0.0
    assert math.isnan(values[1])
    assert all(map(math.isnan, precision([], num_classes=2)))


def test_images_weighted_twice_count_as_if_they_were_there_twice() -> None:
    images = random_images(np.random.default_rng(5), 6)
    for number, (_, found) in enumerate(images):
        found.scores[:] = np.random.default_rng(number).random(len(found.scores))
    weights = np.array([2, 0, 1, 3, 0, 1])
    repeated = [image for image, count in zip(images, weights, strict=True) for _ in range(count)]
    rules = (ILSVRC, VOC, COCO_50)
    once, twice = matched(images, 3, *rules), matched(repeated, 3, *rules)
    for rule in rules:
        weighted = average_precisions(once.matches(rule), rule, weights)
        np.testing.assert_allclose(weighted, average_precisions(twice.matches(rule), rule), rtol=1e-12)


def test_rules_together_find_what_each_finds_alone() -> None:
    images = random_images(np.random.default_rng(8), 12, crowds=True)
    rules = (ILSVRC, VOC, *COCO, Rule("coco", 0.5, "101", 2))
    together = matched(images, 3, *rules)
    for rule in rules:
        np.testing.assert_array_equal(
            average_precisions(together.matches(rule), rule), precision(images, rule, num_classes=3)
        )


# --- against others ---


def random_images(rng: np.random.Generator, count: int, crowds: bool = False) -> Images:
    """Images with objects moved about, equal scores in plenty, and images without objects or detections."""
    images = []
    for _ in range(count):
        shown, found = int(rng.integers(0, 7)), int(rng.integers(0, 15))
        corner = rng.integers(0, 60, (shown, 2))
        boxes = np.hstack([corner, corner + rng.integers(8, 60, (shown, 2))]).astype(float)
        crowd = (rng.random(shown) < 0.2) if crowds else np.zeros(shown, bool)
        anywhere = rng.integers(0, 50, (found, 4)) + np.array([0, 0, 60, 60])
        near = boxes[rng.integers(0, shown, found)] if shown else anywhere
        moved = near + rng.integers(-8, 9, (found, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
        scores = np.round(rng.random(found), 1)
        images.append(
            (
                Objects(boxes, rng.integers(0, 3, shown), crowd, crowd),
                Detections(moved.astype(float), rng.integers(0, 3, found), scores),
            )
        )
    return images


def coco_of(images: Images) -> tuple[dict[str, object], list[dict[str, object]]]:
    def sizes(boxes: NDArray[np.float64]) -> list[list[float]]:
        rows: list[list[float]] = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
        return rows

    annotations = [
        {"image_id": n, "category_id": int(c), "bbox": b, "area": b[2] * b[3], "iscrowd": int(crowd)}
        for n, (shown, _) in enumerate(images, start=1)
        for b, c, crowd in zip(sizes(shown.boxes), shown.classes, shown.crowd, strict=True)
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    results: list[dict[str, object]] = [
        {"image_id": n, "category_id": int(c), "bbox": b, "score": float(s)}
        for n, (_, found) in enumerate(images, start=1)
        for b, c, s in zip(sizes(found.boxes), found.classes, found.scores, strict=True)
    ]
    truth = {
        "images": [{"id": n, "width": 200, "height": 200} for n in range(1, len(images) + 1)],
        "categories": [{"id": c, "name": str(c)} for c in range(3)],
        "annotations": annotations,
    }
    return truth, results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crowds", [False, True])
def test_precision_is_that_of_faster_coco_eval(seed: int, crowds: bool) -> None:
    faster = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed")
    images = random_images(np.random.default_rng(seed), 25, crowds)
    truth, results = coco_of(images)
    coco = faster.COCO(truth)
    evaluation = faster.COCOeval_faster(
        coco, coco.loadRes(results), iouType="bbox", print_function=lambda *_: None
    )
    evaluation.params.useCats = 1
    evaluation.evaluate()
    evaluation.accumulate()
    # [thresholds, recalls, classes, areas, most detections]
    expected = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=1)
    ours = np.array([precision(images, rule, 3) for rule in COCO])
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_precision_is_that_of_torchmetrics(seed: int) -> None:
    detection = pytest.importorskip("torchmetrics.detection", reason="torchmetrics is not installed")
    images = random_images(np.random.default_rng(seed), 20)
    metric = detection.MeanAveragePrecision(iou_thresholds=[0.5], class_metrics=True, backend="faster_coco_eval")
    for shown, found in images:
        ours = {"boxes": torch.tensor(found.boxes), "labels": torch.tensor(found.classes)}
        truth = {"boxes": torch.tensor(shown.boxes), "labels": torch.tensor(shown.classes)}
        metric.update([{**ours, "scores": torch.tensor(found.scores)}], [truth])
    assert metric.compute()["map"].item() == pytest.approx(np.nanmean(precision(images, COCO_50, 3)), abs=1e-6)


def test_overlap_is_a_count_of_pixels() -> None:
    rng = np.random.default_rng(3)
    corner = rng.integers(0, 20, (30, 2))
    boxes = np.hstack([corner, corner + rng.integers(1, 20, (30, 2))])
    grid = np.zeros((30, 40, 40), bool)
    for mask, (left, top, right, bottom) in zip(grid, boxes, strict=True):
        mask[top:bottom, left:right] = True
    both = (grid[:, None] & grid[None]).sum((2, 3))
    either = (grid[:, None] | grid[None]).sum((2, 3))
    np.testing.assert_allclose(overlaps(boxes.astype(float), boxes.astype(float)), both / either)
