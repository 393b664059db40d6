"""`ensemble-eval detect`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.interruption import perform
from ensemble_eval.cli.options import PATH, command, options_of, settings_from
from ensemble_eval.cli.output import say, warn
from ensemble_eval.errors import UNREADABLE_EXIT_CODE
from ensemble_eval.settings import DetectSettings

if TYPE_CHECKING:
    from ensemble_eval.detection.detecting import DetectJob
    from ensemble_eval.detection.writing import Written

# Columns in the order in which they are left out; the configuration and its mAP stay.
_DISPENSABLE = ("images", "passes", "proposals_per_image", "coverage", "interval", "compared_to_base")


@command("ensemble-eval detect val/ --proposals proposals --boxes val/boxes.json")
@click.argument("dataset", type=PATH)
@options_of(DetectSettings)
def detect(dataset: Path, **options: Any) -> int:
    """Detect objects in the images of DATASET, and write the mean average precision of every configuration.

    Every proposal is warped and classified by an ensemble whose last class is "no object". Writes detection.csv
    and other tables, detections/, detections.json (COCO), and submission.txt (ILSVRC) to --out. The same command
    continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    settings = settings_from(DetectSettings, options)
    return perform(lambda: _job(dataset, settings), lambda written: _show(written, settings))


def _job(dataset: Path, settings: DetectSettings) -> "DetectJob":
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.detecting import DetectJob
    from ensemble_eval.evaluation.opening import another_lists
    from ensemble_eval.members.manifest import open_ensemble

    ensemble = open_ensemble(settings.ensemble, models=settings.models)
    lists = another_lists()
    images = open_dataset(dataset, ensemble.classes, "none", listed_in=settings.out, as_listed=lists)
    return DetectJob(ensemble, images, settings)


def _show(written: "Written", settings: DetectSettings) -> int:
    from rich.console import Console

    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.detection.evaluating import detection_table
    from ensemble_eval.detection.formats import DETECTION_TABLE

    for picture in written.pictures:
        say(f"drawn: {picture}")
    if not written.rows:
        chosen = written.chosen
        say(
            f"written to {settings.out}: detections of {chosen.models} models on the proposals "
            f"{chosen.proposals}; tables need --boxes"
        )
    else:
        # If all rows have the same classifier, its column is left out first.
        keys = ("scores", *_DISPENSABLE) if settings.svm is None else _DISPENSABLE
        print_table(Console(markup=False, emoji=False), replace(detection_table(written.rows), notes=()), keys)
        say(f"written to {settings.out / DETECTION_TABLE}")
    for image, reason in list(written.failed.items())[:3]:
        warn(f"{image} has no proposals of {reason}")
    if written.failed:
        warn(f"{len(written.failed)} images lack proposals of a set; they count, and nothing is found in them")
    return UNREADABLE_EXIT_CODE if written.failed else 0
