"""Detections in the formats of COCO's results and of ILSVRC's submission."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ensemble_eval.detection.deciding import Configuration, detections_of


def rows_of(stored: Sequence[Mapping[str, Any]], row: Configuration) -> list[Mapping[str, Any]]:
    """The stored rows of one configuration, images sorted."""
    wanted = (row.proposals, row.models, row.classifier)
    return [each for each in stored if (each["proposals"], each["models"], each["classifier"]) == wanted]


def coco_results(
    stored: Sequence[Mapping[str, Any]],
    row: Configuration,
    class_names: Sequence[str],
    ids: tuple[Mapping[str, int], Mapping[str, int]],
) -> str:
    """COCO's results JSON: a list of `image_id, category_id, bbox, score`.

    `bbox` is left, top, width and height in pixels.

    Args:
        stored: rows of `deciding.SCHEMA`.
        row: whose detections are meant.
        class_names: in index order.
        ids: of images and of classes; see `coco_ids`.
    """
    images, categories = ids
    found = []
    for each in rows_of(stored, row):
        detections = detections_of(each)
        for box, index, score in zip(detections.boxes, detections.classes, detections.scores, strict=True):
            left, top, right, bottom = box.tolist()
            found.append(
                {
                    "image_id": images[each["image"]],
                    "category_id": categories[class_names[int(index)]],
                    "bbox": [round(edge, 3) for edge in (left, top, right - left, bottom - top)],
                    "score": round(float(score), 6),
                }
            )
    return json.dumps(found) + "\n"


def ilsvrc_submission(stored: Sequence[Mapping[str, Any]], row: Configuration) -> str:
    """ILSVRC's submission for detection: `image class score left top right bottom` on each line.

    Images and classes are counted from 1, images in the order of their ids. The last pixel is inside the box, as
    in ILSVRC's development kit.
    """
    lines = []
    for number, each in enumerate(rows_of(stored, row), start=1):
        detections = detections_of(each)
        for box, index, score in zip(detections.boxes, detections.classes, detections.scores, strict=True):
            left, top, right, bottom = box.tolist()
            lines.append(
                f"{number} {int(index) + 1} {score:.6f} {left:.2f} {top:.2f} {right - 1:.2f} {bottom - 1:.2f}\n"
            )
    return "".join(lines)
