"""A picture with what was found in it, and what it shows."""

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.scoring.average_precision import Detections

# Blue and orange are told apart by those who confuse red and green.
_FOUND, _SHOWN, _INK = (31, 119, 180), (255, 140, 0), (255, 255, 255)
_MOST_BOXES = 12
_LEAST_SCORE = 0.25
_LEAST_SIDE = 480


def draw_detections(
    image: Tensor, detections: Detections, objects: Objects | None, class_names: Sequence[str]
) -> Image.Image:
    """An image with its surest detections, solid and named, and its objects, dashed.

    Small images are enlarged, so that names can be read.

    Args:
        image: uint8 [3, height, width].
        detections: of which those with a score of at least a quarter are drawn, at most twelve.
        objects: what it shows; None where that is not known.
        class_names: in index order.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    scale = max(1.0, _LEAST_SIDE / min(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for box in [] if objects is None else objects.boxes[~objects.ignored]:
        _dashed(draw, [edge * scale for edge in box.tolist()])
    best = np.argsort(-detections.scores, kind="stable")[:_MOST_BOXES]
    # The surest last, so that nothing covers its name.
    for index in reversed([each for each in best if detections.scores[each] >= _LEAST_SCORE]):
        left, top, right, bottom = (edge * scale for edge in detections.boxes[index].tolist())
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_FOUND, width=2)
        text = f"{class_names[detections.classes[index]]} {100 * detections.scores[index]:.0f}%"
        place = draw.textbbox((left + 2, max(top - 16, 0)), text, font=font)
        draw.rectangle((place[0] - 2, place[1] - 1, place[2] + 2, place[3] + 1), fill=_FOUND)
        draw.text((left + 2, max(top - 16, 0)), text, fill=_INK, font=font)
    return picture


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[float], dash: float = 7.0) -> None:
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for (x, y), (to_x, to_y) in itertools.pairwise(corners):
        length = max(abs(to_x - x), abs(to_y - y), 1.0)
        for start in np.arange(0, length, 2 * dash):
            a, b = start / length, min((start + dash) / length, 1.0)
            ends = (x + a * (to_x - x), y + a * (to_y - y), x + b * (to_x - x), y + b * (to_y - y))
            draw.line(ends, fill=_SHOWN, width=2)
