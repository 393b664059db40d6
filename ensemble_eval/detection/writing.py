"""What `ensemble-eval detect` leaves beside its stored detections."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Objects, coco_ids, read_boxes
from ensemble_eval.detection.deciding import detections_of
from ensemble_eval.detection.detecting import TABLE_FILE, Detection
from ensemble_eval.detection.drawing import draw_detections
from ensemble_eval.detection.evaluating import DetectionRow, detection_rows
from ensemble_eval.detection.files import coco_results, ilsvrc_submission, rows_of
from ensemble_eval.detection.tables import class_table, detection_table, published_tables, rules_table
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.files import write_atomically
from ensemble_eval.reports.latex import table_latex
from ensemble_eval.reports.markdown import table_markdown
from ensemble_eval.reports.table_csv import table_csv

RECORD_FILE = "detect.json"
DRAWINGS_FOLDER = "pictures"
_LATEX_COLUMNS = (
    "proposals",
    "models",
    "scores",
    "proposals_per_image",
    "coverage",
    "map",
    "compared_to_base",
    "interval",
    "passes",
)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        rows: of the table.
        table: its path.
        pictures: paths of the drawn images.
    """

    rows: list[DetectionRow]
    table: Path
    pictures: list[Path]


def write_results(
    out: Path, job: Detection, boxes: Path, draw: Sequence[str], record: Mapping[str, Any]
) -> Written:
    """Write every table and file of a finished detection, `detection.csv` last.

    Args:
        out: the folder.
        job: whose detections are complete.
        boxes: annotations; see `read_boxes`.
        draw: ids of images to draw.
        record: further facts for `detect.json`.

    Raises:
        InputError: an image to draw is none of the data set, there is nothing to find, or the disk takes no more.
    """
    images = [item.id for item in job.dataset.items]
    objects = read_boxes(boxes, job.class_names, images)
    known = {item.id: item for item in job.dataset.items}
    if strangers := [image for image in draw if image not in known]:
        raise InputError(f"`draw` names {strangers[0]}, which is not among the {len(known)} images; give its id")
    ids = coco_ids(boxes, job.class_names, images)
    stored = job.parts.read().to_pylist()
    rows = detection_rows(stored, objects, job.proposals, job.rows, len(job.class_names))
    best = max(rows, key=lambda each: each.map_percent).configuration
    pictures = []
    for row in rows_of(stored, best):
        if row["image"] in draw:
            # With its place, because two ids may differ in their slashes alone.
            name = f"{images.index(row['image']):06}_{row['image'].replace('/', '_')}.png"
            pictures.append(out / DRAWINGS_FOLDER / name)
            drawn = _drawn(known[row["image"]].read(), row, objects[row["image"]], job.class_names)
            write_atomically(pictures[-1], drawn)
    table = detection_table(rows)
    others = [rules_table(rows), class_table(rows, job.class_names), *published_tables(rows, job.dataset.source)]
    for each in others:
        write_atomically(out / f"{each.name}.csv", table_csv(each).encode())
    for each in (table, *others[2:]):
        write_atomically(out / f"{each.name}.md", table_markdown(each).encode())
    for each in (table.only(*_LATEX_COLUMNS), *others[2:]):
        write_atomically(out / f"{each.name}.tex", table_latex(each).encode())
    write_atomically(out / "detections.json", coco_results(stored, best, job.class_names, ids).encode())
    write_atomically(out / "submission.txt", ilsvrc_submission(stored, best).encode())
    said = {**record, "best": {"proposals": best.proposals, "models": best.models, "scores": best.classifier}}
    write_atomically(out / RECORD_FILE, (json.dumps(said, indent=2) + "\n").encode())
    write_atomically(out / TABLE_FILE, table_csv(table).encode())
    return Written(rows, out / TABLE_FILE, pictures)


def _drawn(data: bytes, row: Mapping[str, Any], objects: Objects, class_names: Sequence[str]) -> bytes:
    try:
        image = pixels.decode(data)
    except UnreadableImageError as error:
        raise InputError(f"{row['image']} was detected in and now {error}; restore the image") from error
    buffer = io.BytesIO()
    draw_detections(image, detections_of(row), objects, class_names).save(buffer, "PNG")
    return buffer.getvalue()
