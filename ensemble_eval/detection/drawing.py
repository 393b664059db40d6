"""A picture with what was found in it, and what it shows."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.deciding import Classifier
from ensemble_eval.scoring.average_precision import Detections

# Blue and orange are told apart by those who confuse red and green.
_FOUND, _SHOWN, _INK = (31, 119, 180), (255, 140, 0), (255, 255, 255)
MOST_DRAWN = 12
# A softmax of a quarter; and a margin of 0, from where an SVM says that a region shows its class.
DRAWN_ABOVE: Mapping[Classifier, float] = {"softmax": 0.25, "svm": 0.0}
_LEAST_SIDE = 480


def draw_detections(
    image: Tensor,
    detections: Detections,
    objects: Objects | None,
    class_names: Sequence[str],
    classifier: Classifier = "softmax",
    above: float | None = None,
) -> Image.Image:
    """An image with its surest detections, solid and named, and its objects, dashed.

    Small images are enlarged, and on large ones names and lines are larger, so that they can be read.

    Args:
        image: uint8 [3, height, width].
        detections: of which the `MOST_DRAWN` surest are drawn, and only those of a score of `above` or more.
        objects: what it shows; None where that is not known.
        class_names: in index order.
        classifier: what the scores are: softmax is drawn as a percentage, the margin of an SVM as it is.
        above: a score; None for that of `DRAWN_ABOVE`.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    scale = max(1.0, _LEAST_SIDE / min(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    unit = min(picture.size) / _LEAST_SIDE
    for box in [] if objects is None else objects.boxes[~objects.ignored]:
        _dashed(picture, [edge * scale for edge in box.tolist()], unit)
    least = DRAWN_ABOVE[classifier] if above is None else above
    best = np.argsort(-detections.scores, kind="stable")[:MOST_DRAWN]
    # The surest last, so that nothing covers its name.
    for index in reversed([each for each in best if detections.scores[each] >= least]):
        score = detections.scores[index]
        said = f"{100 * score:.0f}%" if classifier == "softmax" else f"{score:.2f}"
        box = [edge * scale for edge in detections.boxes[index].tolist()]
        _named(picture, box, f"{class_names[detections.classes[index]]} {said}", unit)
    return picture


def _named(picture: Image.Image, box: Sequence[float], name: str, unit: float) -> None:
    """Draw a solid box with its name above its upper left corner."""
    draw, font, line = ImageDraw.Draw(picture), ImageFont.load_default(13 * unit), round(2 * unit)
    left, top, right, bottom = box
    draw.rectangle((left, top, right - 1, bottom - 1), outline=_FOUND, width=line)
    # Moved to the left where it would be cut off at the right.
    most_left = picture.width - math.ceil(font.getlength(name)) - line - 1
    corner = (max(min(left + line, most_left), 0), max(top - 16 * unit, 0))
    place = draw.textbbox(corner, name, font=font)
    draw.rectangle((place[0] - line, place[1] - 1, place[2] + line, place[3] + 1), fill=_FOUND)
    draw.text(corner, name, fill=_INK, font=font)


def _dashed(picture: Image.Image, box: Sequence[float], unit: float) -> None:
    draw, dash, line = ImageDraw.Draw(picture), 7 * unit, round(2 * unit)
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for (x, y), (to_x, to_y) in itertools.pairwise(corners):
        length = max(abs(to_x - x), abs(to_y - y), 1.0)
        for start in np.arange(0, length, 2 * dash):
            a, b = start / length, min((start + dash) / length, 1.0)
            ends = (x + a * (to_x - x), y + a * (to_y - y), x + b * (to_x - x), y + b * (to_y - y))
            draw.line(ends, fill=_SHOWN, width=line)
