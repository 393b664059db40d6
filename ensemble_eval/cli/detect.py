"""`ensemble-eval detect`."""

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.options import FRESH, PATH, SAVE_EVERY, detection_options, option_of
from ensemble_eval.cli.output import say, warn
from ensemble_eval.errors import InputError
from ensemble_eval.launch.cpu import keep_freed_memory, wait_without_spinning
from ensemble_eval.launch.place import Role
from ensemble_eval.settings import Settings

if TYPE_CHECKING:
    from ensemble_eval.detection.detecting import Detection
    from ensemble_eval.launch.place import Place
    from ensemble_eval.launch.signals import StopRequests

# The first to go first where there is no room; the configuration and its mAP stay.
_DISPENSABLE = ("images", "passes", "proposals an image", "coverage", "95% interval", "to base")


@click.command()
@detection_options
@click.option("--models", type=int, help="Use only the first N members.  [default: all]")
@click.option(
    "--boxes",
    type=PATH,
    help="Annotations: COCO's JSON, or a folder of XML files. Without them there are detections and no tables.",
)
@click.option("--out", type=PATH, default=Path("detections"), show_default=True, help="Folder for the results.")
@click.option("--svm", type=PATH, help="SVMs of `detect-svm`, for rows of their own.")
@click.option("--draw", multiple=True, metavar="IMAGE", help="Draw what is found in this image; repeatable.")
@click.option(
    "--draw-above",
    type=float,
    help="Draw only detections of this score or more.  [default: 0.25; with SVMs a margin of 0]",
)
@option_of(Settings, "device")
@option_of(Settings, "precision", help="Precision of the convolutions.")
@option_of(Settings, "backend", help="What runs the networks.")
@option_of(Settings, "batch_size", help="Regions per batch.  [default: by device, halved if needed]")
@option_of(Settings, "workers", help="Threads that warp regions.  [default: the usable processors less one]")
@option_of(Settings, "trust_python")
@click.option("--ranks", type=int, help="Processes on this machine.  [default: one for each GPU; 1 on the CPU]")
@SAVE_EVERY
@FRESH
def detect(**options: Any) -> int:
    """Detect objects in the images of DATASET, and write the mean average precision of every configuration.

    Every proposal is warped and classified by an ensemble whose last class is "no object". Writes detection.csv
    and other tables, detections/, detections.json (COCO), and submission.txt (ILSVRC) to --out. The same command
    continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    wait_without_spinning()
    keep_freed_memory()
    from ensemble_eval.cli.interruption import as_one_of
    from ensemble_eval.launch.place import find_place

    place = find_place()
    return as_one_of(place, lambda: _detect(options, place))


def _detect(options: dict[str, Any], place: "Place") -> int:
    from ensemble_eval.cli.interruption import continuable

    with continuable(place) as stop:
        job = _opened(options)
        with job.in_use(place, fresh=options["fresh"]):
            _draw_progress(job, place, stop, options["ranks"])
            if place.role is Role.WORKER:
                return 0
            if not job.is_complete():
                warn("other processes are still at it; the last of them writes the tables")
                return 0
            _write(job, options)
    failed = job.without_proposals
    for image, reason in list(failed.items())[:3]:
        warn(f"{image} has no proposals of {reason}")
    if failed:
        warn(f"{len(failed)} images lack proposals of a set; they count, and nothing is found in them")
    return 3 if failed else 0


def _opened(options: dict[str, Any]) -> "Detection":
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.detection.detecting import Detection
    from ensemble_eval.members.manifest import open_ensemble

    above = options["draw_above"]
    if above is not None and options["svm"] is None and not 0 <= above <= 1:
        raise InputError(f"--draw-above is {above:g}, and scores are from 0 to 1; 0.9 draws from 90% on")
    known = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(crops=1, **{name: value for name, value in options.items() if name in known})
    ensemble = open_ensemble(options["ensemble"], models=options["models"])
    dataset = open_dataset(options["dataset"], ensemble.classes, "none")
    return Detection(ensemble, dataset, options["proposals"], options["out"], settings, options["svm"])


def _draw_progress(job: "Detection", place: "Place", stop: "StopRequests", ranks: int | None) -> None:
    from rich.console import Console

    from ensemble_eval.cli.interruption import continuing_words
    from ensemble_eval.cli.progress import counted
    from ensemble_eval.detection.detecting import Detected, Remarks
    from ensemble_eval.detection.ranks import Ranks

    last = Detected(0, 0, 0, 0.0)
    # Of several processes one says what all of them would say.
    console = Console(stderr=True, markup=False, quiet=not place.reports)
    with (
        contextlib.closing(job.run(place, stop, Ranks(ranks, tuple(continuing_words())))) as events,
        counted(console, "detecting", "images", len(job.dataset.items)) as on_progress,
    ):
        for event in events:
            if isinstance(event, Remarks):
                for sentence in event.sentences:
                    warn(sentence, console)
                continue
            on_progress(event.done, event.total)
            last = event
    if last.regions and place.reports:
        say(f"{last.regions} regions in {last.seconds:.0f} s")


def _write(job: "Detection", options: dict[str, Any]) -> None:
    from rich.console import Console

    from ensemble_eval.cli.output import print_sentence
    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.detection.tables import detection_table
    from ensemble_eval.detection.writing import write_results
    from ensemble_eval.results.run_record import versions

    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    record = {"arguments": arguments, "versions": versions(), "images": len(job.dataset.items)}
    written = write_results(options["out"], job, options["boxes"], options["draw"], record, options["draw_above"])
    for picture in written.pictures:
        say(f"drawn: {picture}")
    if written.table is None:
        chosen = written.chosen
        say(
            f"written to {options['out']}: detections of {chosen.models} models on the proposals "
            f"{chosen.proposals}; tables need --boxes"
        )
        return
    table = detection_table(written.rows)
    console = Console(markup=False, emoji=False)
    print_sentence(console, table.title)
    header = [column.title for column in table.columns]
    # Where all rows have the same classifier, its column goes first.
    titles = _DISPENSABLE if options["svm"] else ("scores", *_DISPENSABLE)
    dispensable = [(header.index(title),) for title in titles]
    print_table(console, header, table.cells(), dispensable, left_aligned=[0, 2])
    say(f"written to {written.table}")
