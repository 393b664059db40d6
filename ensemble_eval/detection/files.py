"""Detections in the formats of COCO's results and of ILSVRC's submission.

Both are given image by image: together, those of a whole data set can be larger than memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ensemble_eval.scoring.average_precision import Detections


def coco_results(
    found: Iterable[tuple[str, Detections]],
    class_names: Sequence[str],
    ids: tuple[Mapping[str, int], Mapping[str, int]],
) -> Iterator[str]:
    """COCO's results JSON, a list of `image_id, category_id, bbox, score`, in pieces.

    `bbox` is left, top, width and height in pixels.

    Args:
        found: images and their detections.
        class_names: in index order.
        ids: of images and of classes; see `coco_ids`.
    """
    images, categories = ids
    separator = "["
    for image, detections in found:
        entries = []
        for box, index, score in zip(detections.boxes, detections.classes, detections.scores, strict=True):
            left, top, right, bottom = box.tolist()
            entries.append(
                {
                    "image_id": images[image],
                    "category_id": categories[class_names[int(index)]],
                    "bbox": [round(edge, 3) for edge in (left, top, right - left, bottom - top)],
                    "score": round(float(score), 6),
                }
            )
        if entries:
            yield separator + json.dumps(entries)[1:-1]
            separator = ", "
    yield "[]\n" if separator == "[" else "]\n"


def ilsvrc_submission(found: Iterable[tuple[str, Detections]]) -> Iterator[str]:
    """ILSVRC's submission for detection, `image class score left top right bottom` on each line, by image.

    Images and classes are counted from 1. The last pixel is inside the box, as in ILSVRC's development kit.

    Args:
        found: images in the order of their ids, and their detections.
    """
    for number, (_, detections) in enumerate(found, start=1):
        lines = []
        for box, index, score in zip(detections.boxes, detections.classes, detections.scores, strict=True):
            left, top, right, bottom = box.tolist()
            lines.append(
                f"{number} {int(index) + 1} {score:.6f} {left:.2f} {top:.2f} {right - 1:.2f} {bottom - 1:.2f}\n"
            )
        yield "".join(lines)
