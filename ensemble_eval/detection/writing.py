"""What `detect` writes beside the detections that it stores: tables, files for other tools, and pictures."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Objects, coco_ids, read_boxes
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import Classifier, Configuration, detections_of
from ensemble_eval.detection.evaluating import (
    RESAMPLES,
    DetectionRow,
    class_table,
    detection_rows,
    detection_table,
    published_tables,
    rules_table,
)
from ensemble_eval.detection.formats import DETECT, DETECTION_TABLE, DetectKey
from ensemble_eval.detection.proposals import StoredProposals, failures_in
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.files import atomic_path, write_atomically
from ensemble_eval.scoring.average_precision import Detections
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store import record
from ensemble_eval.store.store import Store
from ensemble_eval.tables.formats import table_csv, table_latex, table_markdown

DRAWINGS_FOLDER = "pictures"
# Whoever confuses red and green can tell blue from orange.
_FOUND, _SHOWN, _INK = (31, 119, 180), (255, 140, 0), (255, 255, 255)
MAX_DRAWN = 12
# From a margin of 0 on, an SVM says that a region shows its class.
DRAWN_ABOVE: Mapping[Classifier, float] = {"softmax": 0.25, "svm": 0.0}
_MIN_SIDE = 480


@dataclass(frozen=True)
class Annotations:
    """What is known about the images before detection.

    Attributes:
        objects: The objects of each image; None without annotations.
        image_numbers: The number of each image in COCO's results.
        class_numbers: The numbers of the classes there, in index order.
    """

    objects: Mapping[str, Objects] | None
    image_numbers: Mapping[str, int]
    class_numbers: Sequence[int]


@dataclass(frozen=True)
class DetectionData:
    """The inputs of `detect` and its stored detections: everything that its tables and files are made of.

    Attributes:
        settings: Where the annotations are and the results go, and what is drawn.
        class_names: The classes of objects.
        dataset: The images.
        proposals: Their proposals.
        rows: The configurations.
        store: The detections.
    """

    settings: DetectSettings
    class_names: Sequence[str]
    dataset: Dataset
    proposals: StoredProposals
    rows: Sequence[Configuration]
    store: Store[DetectKey]

    @cached_property
    def annotations(self) -> Annotations:
        """The annotations of the images.

        Raises:
            InputError: They cannot be used, or lack a class of the members.
        """
        boxes, images = self.settings.boxes, [item.id for item in self.dataset.items]
        objects = None if boxes is None else read_boxes(boxes, self.class_names, images)
        image_numbers, categories = coco_ids(boxes, self.class_names, images)
        if unknown := [name for name in self.class_names if name not in categories]:
            raise InputError(f"{boxes} has no category {unknown[0]!r}, which may be found; add it to `categories`")
        return Annotations(objects, image_numbers, [categories[name] for name in self.class_names])

    def evaluated(self, resamples: int = RESAMPLES) -> list[DetectionRow]:
        """The rows of the table, over the images that are done; none without annotations."""
        objects = self.annotations.objects
        if objects is None:
            return []
        images = (
            (objects[image], self.proposals[image], self.store.rows(image))
            for image in sorted(self.store.progress.done)
        )
        return detection_rows(images, self.rows, len(self.class_names), resamples)

    def found(self, image: str, row: Configuration) -> Detections:
        """The detections of a configuration in an image."""
        return detections_of(self.store.rows(image)[self.rows.index(row)])


@dataclass(frozen=True)
class Written:
    """What `detect` has written.

    Attributes:
        rows: The rows of the table; empty without annotations.
        chosen: The configuration whose detections are in the files and pictures.
        pictures: The paths of the drawn images.
        failed: Images without proposals of a set, with the reason; they count, and have no detections from it.
    """

    rows: list[DetectionRow]
    chosen: Configuration
    pictures: list[Path]
    failed: Mapping[str, str]


def write_results(data: DetectionData, facts: Mapping[str, Any]) -> Written:
    """Write every table and file of a finished detection, `detection.csv` last.

    Files and pictures hold the detections of the row of the highest mAP. Without annotations there are no tables,
    and they hold the softmax detections of all members on the last sets of proposals.

    Args:
        data: The data of a finished job.
        facts: Further facts for `detect.json`.

    Raises:
        InputError: The annotations contain no object of these classes, or the disk is full.
    """
    out, rows = data.settings.out, data.evaluated()
    softmax = [row for row in data.rows if row.classifier == "softmax"]
    chosen = max(rows, key=lambda each: each.map_percent).configuration if rows else softmax[-1]
    pictures = [_write_picture(data, chosen, image) for image in sorted(set(data.settings.draw))]
    _write_detections(data, chosen)
    said = {"proposals": chosen.proposals, "models": chosen.models, "scores": chosen.classifier}
    record.write(out, DETECT, {**facts, "chosen": said})
    if rows:
        _write_tables(data, rows)
    failed = {image: f"{name}: {reason}" for image, name, reason in failures_in(data.proposals.stores)}
    return Written(rows, chosen, pictures, failed)


def _write_tables(data: DetectionData, rows: Sequence[DetectionRow]) -> None:
    out, table = data.settings.out, detection_table(rows)
    others = [rules_table(rows), class_table(rows, data.class_names), *published_tables(rows, data.dataset.source)]
    for each in others:
        write_atomically(out / f"{each.name}.csv", table_csv(each).encode())
    for each in (table, *others[2:]):
        write_atomically(out / f"{each.name}.md", table_markdown(each).encode())
    for each in (table.without("images"), *others[2:]):
        write_atomically(out / f"{each.name}.tex", table_latex(each).encode())
    write_atomically(out / DETECTION_TABLE, table_csv(table).encode())


def _write_detections(data: DetectionData, row: Configuration) -> None:
    """Write the detections of one configuration as COCO's results and as ILSVRC's submission.

    It writes image by image, because the detections of a whole data set may not fit into memory.
    """
    out, known = data.settings.out, data.annotations
    with (
        atomic_path(out / "detections.json") as coco_path,
        atomic_path(out / "submission.txt") as ilsvrc_path,
        coco_path.open("w") as coco,
        ilsvrc_path.open("w") as ilsvrc,
    ):
        separator = "["
        for number, image in enumerate(sorted(data.store.progress.done), start=1):
            found = data.found(image, row)
            if entries := coco_results(found, known.image_numbers[image], known.class_numbers):
                coco.write(separator + json.dumps(entries)[1:-1])
                separator = ", "
            ilsvrc.writelines(submission_lines(found, number))
        coco.write("[]\n" if separator == "[" else "]\n")


def coco_results(found: Detections, image: int, categories: Sequence[int]) -> list[dict[str, Any]]:
    """The detections of an image in the format of COCO's results.

    Args:
        found: The detections.
        image: The image's number.
        categories: The numbers of the classes, in index order.
    """
    return [
        {
            "image_id": image,
            "category_id": categories[int(index)],
            "bbox": [round(edge, 3) for edge in (left, top, right - left, bottom - top)],
            "score": round(float(score), 6),
        }
        for (left, top, right, bottom), index, score in _each(found)
    ]


def submission_lines(found: Detections, image: int) -> list[str]:
    """The detections of an image as lines of ILSVRC's submission, `image class score left top right bottom`.

    Images and classes are counted from 1. The last pixel is inside the box, as in ILSVRC's development kit.
    """
    return [
        f"{image} {int(index) + 1} {score:.6f} {left:.2f} {top:.2f} {right - 1:.2f} {bottom - 1:.2f}\n"
        for (left, top, right, bottom), index, score in _each(found)
    ]


def _each(found: Detections) -> Iterator[tuple[list[float], int, float]]:
    return zip(found.boxes.tolist(), found.classes, found.scores, strict=True)


def _write_picture(data: DetectionData, row: Configuration, image: str) -> Path:
    """Draw what a configuration found in an image; return the picture's path."""
    [(number, item)] = [(number, item) for number, item in enumerate(data.dataset.items) if item.id == image]
    try:
        decoded = pixels.decode(item.read())
    except UnreadableImageError as error:
        raise InputError(f"{image} was detected in and now {error}; restore the image") from error
    objects, above = data.annotations.objects, data.settings.draw_above
    shown = None if objects is None else objects[image]
    picture = draw_detections(decoded, data.found(image, row), shown, data.class_names, row.classifier, above)
    # Two ids may differ in their slashes alone, so the name begins with the image's number.
    path = data.settings.out / DRAWINGS_FOLDER / f"{number:06}_{image.replace('/', '_')}.png"
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG")
    return path


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
        detections: The `MAX_DRAWN` surest of them are drawn, if their score is `above` or more.
        objects: The objects of the image; None where they are not known.
        class_names: The names of the classes, in index order.
        classifier: What the scores are: a softmax is shown as a percentage, the margin of an SVM as it is.
        above: The least score that is drawn; by default the one of `DRAWN_ABOVE`.
    """
    picture = pixels.picture_of(image)
    scale = max(1.0, _MIN_SIDE / min(picture.size))
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    unit = min(picture.size) / _MIN_SIDE
    for box in [] if objects is None else objects.boxes[~objects.ignored]:
        _dashed(picture, [edge * scale for edge in box.tolist()], unit)
    least = DRAWN_ABOVE[classifier] if above is None else above
    best = np.argsort(-detections.scores, kind="stable")[:MAX_DRAWN]
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
