"""What `ensemble-eval detect` leaves beside its stored detections."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Objects, coco_ids, read_boxes
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.detection.deciding import Configuration, detections_of
from ensemble_eval.detection.drawing import draw_detections
from ensemble_eval.detection.evaluating import DetectionRow, detection_rows
from ensemble_eval.detection.files import coco_results, ilsvrc_submission
from ensemble_eval.detection.formats import DETECT, DETECTION_TABLE, DetectKey
from ensemble_eval.detection.proposals import StoredProposals
from ensemble_eval.detection.tables import class_table, detection_table, published_tables, rules_table
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.files import write_atomically, write_pieces_atomically
from ensemble_eval.scoring.average_precision import Detections
from ensemble_eval.settings import DetectSettings
from ensemble_eval.store import record
from ensemble_eval.store.store import Store
from ensemble_eval.tables.formats import table_csv, table_latex, table_markdown

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
class Finding:
    """What is looked for in which images, and where it is stored.

    Attributes:
        class_names: The classes of objects.
        dataset: The images.
        proposals: Their proposals.
        rows: The configurations.
        store: The detections.
    """

    class_names: Sequence[str]
    dataset: Dataset
    proposals: StoredProposals
    rows: Sequence[Configuration]
    store: Store[DetectKey]

    def found(self, row: Configuration) -> Iterator[Mapping[str, Any]]:
        """The stored rows of a configuration, one for each finished image, images sorted."""
        wanted = (row.proposals, row.models, row.classifier)
        for image in sorted(self.store.progress.done):
            for stored in self.store.rows(image):
                if (stored["proposals"], stored["models"], stored["classifier"]) == wanted:
                    yield stored


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        rows: of the table; empty without annotations.
        table: its path; None without annotations.
        chosen: the configuration whose detections are in the files and pictures.
        pictures: paths of the drawn images.
        failed: images that a set of proposals failed on, with the reason; they count, and have no detections.
    """

    rows: list[DetectionRow]
    table: Path | None
    chosen: Configuration
    pictures: list[Path]
    failed: Mapping[str, str]


def write_results(settings: DetectSettings, job: Finding, facts: Mapping[str, Any]) -> Written:
    """Write every table and file of a finished detection, `detection.csv` last.

    Files and pictures hold the detections of the row of the highest mAP. Without annotations there are no tables,
    and the last row of softmax is chosen: all members, on the last proposals.

    Args:
        settings: Where to, the annotations, and what is drawn.
        job: What is stored, complete.
        facts: Further facts for `detect.json`.

    Raises:
        InputError: an image to draw is none of the data set, there is nothing to find, or the disk takes no more.
    """
    out, boxes, draw = settings.out, settings.boxes, settings.draw
    images = [item.id for item in job.dataset.items]
    if strangers := [image for image in draw if image not in set(images)]:
        raise InputError(f"`draw` names {strangers[0]}, which is not among the {len(images)} images; give its id")
    objects = None if boxes is None else read_boxes(boxes, job.class_names, images)
    ids = coco_ids(boxes, job.class_names, images)
    rows: list[DetectionRow] = []
    if objects is not None:
        rows = detection_rows(job.found, objects, job.proposals, job.rows, len(job.class_names))
        chosen = max(rows, key=lambda each: each.map_percent).configuration
    else:
        chosen = [row for row in job.rows if row.classifier == "softmax"][-1]
    pictures = _write_pictures(out, job, chosen, draw, objects or {}, settings.draw_above)
    results = coco_results(_detections(job, chosen), job.class_names, ids)
    write_pieces_atomically(out / "detections.json", results)
    write_pieces_atomically(out / "submission.txt", ilsvrc_submission(_detections(job, chosen)))
    said = {"proposals": chosen.proposals, "models": chosen.models, "scores": chosen.classifier}
    record.write(out, DETECT, {**facts, "chosen": said})
    table = _write_tables(out, job, rows) if rows else None
    failed = {image: f"{name}: {reason}" for image, name, reason in job.proposals.failures}
    return Written(rows, table, chosen, pictures, failed)


def _write_tables(out: Path, job: Finding, rows: Sequence[DetectionRow]) -> Path:
    """Write the tables; return the path of the last."""
    table = detection_table(rows)
    others = [rules_table(rows), class_table(rows, job.class_names), *published_tables(rows, job.dataset.source)]
    for each in others:
        write_atomically(out / f"{each.name}.csv", table_csv(each).encode())
    for each in (table, *others[2:]):
        write_atomically(out / f"{each.name}.md", table_markdown(each).encode())
    for each in (table.only(*_LATEX_COLUMNS), *others[2:]):
        write_atomically(out / f"{each.name}.tex", table_latex(each).encode())
    write_atomically(out / DETECTION_TABLE, table_csv(table).encode())
    return out / DETECTION_TABLE


def _detections(job: Finding, row: Configuration) -> Iterator[tuple[str, Detections]]:
    return ((stored["image"], detections_of(stored)) for stored in job.found(row))


def _write_pictures(
    out: Path,
    job: Finding,
    row: Configuration,
    draw: Sequence[str],
    objects: Mapping[str, Objects],
    above: float | None,
) -> list[Path]:
    """Draw some images, in the order of their ids; return the paths."""
    items = {item.id: (number, item) for number, item in enumerate(job.dataset.items)}
    paths = []
    for image, detections in _detections(job, row) if draw else ():
        if image not in draw:
            continue
        number, item = items[image]
        # With its place, because two ids may differ in their slashes alone.
        paths.append(out / DRAWINGS_FOLDER / f"{number:06}_{image.replace('/', '_')}.png")
        try:
            pixels_of_image = pixels.decode(item.read())
        except UnreadableImageError as error:
            raise InputError(f"{image} was detected in and now {error}; restore the image") from error
        shown = objects.get(image)
        picture = draw_detections(pixels_of_image, detections, shown, job.class_names, row.classifier, above)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_atomically(paths[-1], buffer.getvalue())
    return paths
