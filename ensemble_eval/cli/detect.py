"""`ensemble-eval detect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.interruption import perform
from ensemble_eval.cli.options import FRESH, detection_options, distribution_options, option_of
from ensemble_eval.cli.output import say, warn
from ensemble_eval.settings import DetectSettings

if TYPE_CHECKING:
    from ensemble_eval.detection.detecting import DetectJob
    from ensemble_eval.detection.writing import Written

# The first to go first where they do not fit; the configuration and its mAP stay.
_DISPENSABLE = ("images", "passes", "proposals an image", "coverage", "95% interval", "to base")


@click.command()
@detection_options
@option_of(DetectSettings, "models")
@option_of(DetectSettings, "boxes")
@option_of(DetectSettings, "out")
@option_of(DetectSettings, "svm")
@option_of(DetectSettings, "draw", multiple=True, type=str, metavar="IMAGE")
@option_of(DetectSettings, "draw_above")
@option_of(DetectSettings, "device")
@option_of(DetectSettings, "precision", help="Precision of the convolutions.")
@option_of(DetectSettings, "backend", help="What runs the networks.")
@option_of(DetectSettings, "batch_size", help="Regions per batch.  [default: by device, halved if needed]")
@option_of(DetectSettings, "workers", help="Threads that warp regions.  [default: the usable processors less one]")
@option_of(DetectSettings, "trust_python")
@distribution_options(DetectSettings)
@FRESH
def detect(**options: Any) -> int:
    """Detect objects in the images of DATASET, and write the mean average precision of every configuration.

    Every proposal is warped and classified by an ensemble whose last class is "no object". Writes detection.csv
    and other tables, detections/, detections.json (COCO), and submission.txt (ILSVRC) to --out. The same command
    continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    dataset = options.pop("dataset")
    settings = DetectSettings(**options)
    return perform(lambda: _job(dataset, settings), lambda written: _show(written, settings))


def _job(dataset: Path, settings: DetectSettings) -> "DetectJob":
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.detecting import DetectJob
    from ensemble_eval.members.manifest import open_ensemble

    ensemble = open_ensemble(settings.ensemble, models=settings.models)
    return DetectJob(ensemble, open_dataset(dataset, ensemble.classes, "none"), settings)


def _show(written: "Written", settings: DetectSettings) -> int:
    for picture in written.pictures:
        say(f"drawn: {picture}")
    if written.table is None:
        chosen = written.chosen
        say(
            f"written to {settings.out}: detections of {chosen.models} models on the proposals "
            f"{chosen.proposals}; tables need --boxes"
        )
    else:
        _print_table(written, with_svm=settings.svm is not None)
        say(f"written to {written.table}")
    for image, reason in list(written.failed.items())[:3]:
        warn(f"{image} has no proposals of {reason}")
    if written.failed:
        warn(f"{len(written.failed)} images lack proposals of a set; they count, and nothing is found in them")
    return 3 if written.failed else 0


def _print_table(written: "Written", *, with_svm: bool) -> None:
    from rich.console import Console

    from ensemble_eval.cli.output import print_sentence
    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.detection.tables import detection_table

    table = detection_table(written.rows)
    console = Console(markup=False, emoji=False)
    print_sentence(console, table.title)
    header = [column.title for column in table.columns]
    # Where all rows have the same classifier, its column goes first.
    titles = _DISPENSABLE if with_svm else ("scores", *_DISPENSABLE)
    dispensable = [(header.index(title),) for title in titles]
    print_table(console, header, table.cells(), dispensable, left_aligned=[0, 2])
