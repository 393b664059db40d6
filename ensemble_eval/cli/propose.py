"""`ensemble-eval propose`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.options import FRESH, PATH, SAVE_EVERY, option_of
from ensemble_eval.cli.output import say, warn
from ensemble_eval.fields import rule_of
from ensemble_eval.launch.place import Role
from ensemble_eval.settings import ProposeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensemble_eval.datasets.items import Dataset
    from ensemble_eval.detection.coverage import SetCoverage
    from ensemble_eval.detection.proposing import Finished
    from ensemble_eval.launch.place import Place

_SHIPPED = Path("checkpoints/detection/multibox.safetensors")


@click.command()
@click.argument("dataset", type=PATH)
@option_of(ProposeSettings, "out")
@click.option(
    "--sets",
    default=",".join(ProposeSettings.sets),
    show_default=True,
    help=rule_of(ProposeSettings, "sets").help,
)
@option_of(
    ProposeSettings, "multibox", help=f"File of a trained MultiBox.  [default: {_SHIPPED}, where it is there]"
)
@option_of(ProposeSettings, "multibox_boxes")
@option_of(ProposeSettings, "from_file")
@click.option("--boxes", type=PATH, help="Annotations, for the coverage: COCO's JSON, or a folder of XML files.")
@option_of(ProposeSettings, "workers")
@click.option("--ranks", type=int, default=1, show_default=True, help="Processes on this machine.")
@SAVE_EVERY
@FRESH
def propose(dataset: Path, **options: Any) -> int:
    """Propose boxes that may hold an object in every image of DATASET.

    Writes proposals/ and propose.json to --out, and with --boxes coverage.csv and a curve. The same command
    continues an interrupted run. Under torchrun or srun it takes its share of the images. Selective search needs
    the extra [detection].
    """
    from ensemble_eval.cli.interruption import as_one_of
    from ensemble_eval.launch.place import find_place

    place = find_place()
    return as_one_of(place, lambda: _propose(dataset, options, place))


def _propose(dataset: Path, options: dict[str, Any], place: "Place") -> int:
    from ensemble_eval.cli.interruption import continuable

    with continuable(place):
        from ensemble_eval.datasets.opening import open_dataset

        settings = _settings(dict(options), place.neighbours)
        images = open_dataset(dataset, ["object"], "none")
        finished = _proposed(images, settings, place, options["ranks"])
        if place.role is Role.WORKER:
            return 0
        if not finished.complete:
            warn("other processes are still at it; the last of them writes propose.json")
            return 0
        for name, boxes in finished.boxes.items():
            say(f"{name}: {boxes:.1f} proposals an image")
        if options["boxes"] is not None:
            _say_coverage(settings.out, images, options["boxes"])
    say(f"written to {settings.out}")
    for image, name, reason in finished.failed[:3]:
        warn(f"{image} has no proposals of {name}: {reason}")
    if finished.failed:
        warn(f"{len(finished.failed)} searches failed; see {settings.out / 'unreadable.csv'}")
    return 3 if finished.failed else 0


def _settings(options: dict[str, Any], neighbours: int) -> ProposeSettings:
    from ensemble_eval.launch.cpu import usable_processors

    del options["boxes"], options["ranks"]
    options["sets"] = tuple(name.strip() for name in options["sets"].split(",") if name.strip())
    options["multibox"] = options["multibox"] or (_SHIPPED if _SHIPPED.is_file() else None)
    if options["workers"] is None:
        options["workers"] = max(1, usable_processors() // neighbours)
    return ProposeSettings(**options)


def _proposed(dataset: "Dataset", settings: ProposeSettings, place: "Place", ranks: int) -> "Finished":
    from rich.console import Console

    from ensemble_eval.cli.interruption import continuing_words
    from ensemble_eval.cli.progress import counted
    from ensemble_eval.detection.proposing import Finished, propose
    from ensemble_eval.detection.ranks import Ranks

    console = Console(stderr=True, markup=False, quiet=place.role is Role.WORKER)
    with contextlib.closing(propose(dataset, settings, place, Ranks(ranks, tuple(continuing_words())))) as events:
        total = len(dataset.items) * (len(settings.sets) + (settings.from_file is not None))
        with counted(console, "proposing", "searches", total) as on_progress:
            for event in events:
                if isinstance(event, Finished):
                    return event
                on_progress(event.done, event.total)
    raise AssertionError("the job ends with what is there")


def _say_coverage(out: Path, dataset: "Dataset", boxes: Path) -> None:
    from ensemble_eval.datasets.boxes import class_names_in, read_boxes
    from ensemble_eval.detection.coverage import coverage_of_sets, write_coverage
    from ensemble_eval.detection.proposals import StoredProposals

    objects = read_boxes(boxes, class_names_in(boxes), [item.id for item in dataset.items])
    stored = StoredProposals(out, dataset)
    rows = coverage_of_sets(stored, objects, list(stored.keys_of_sets))
    for each in rows:
        found = each.found
        say(
            f"{each.name}: {found.boxes_per_image:.1f} proposals an image cover {100 * found.at_half[-1]:.1f}% of "
            f"{found.objects} objects at an overlap of 0.5, and {100 * found.mean[-1]:.1f}% in the mean to 0.95"
        )
    say(f"coverage by number of proposals: {write_coverage(out, rows)}")
    _draw_coverage(out, rows)


def _draw_coverage(out: Path, rows: "Sequence[SetCoverage]") -> None:
    from ensemble_eval.detection.coverage_plot import coverage_plot
    from ensemble_eval.errors import MissingExtraError
    from ensemble_eval.files import write_atomically

    try:
        plot = coverage_plot(rows)
    except MissingExtraError as error:
        warn(f"no curve of the coverage is drawn: {error}")
        return
    write_atomically(out / "coverage.svg", plot.svg.encode())
    write_atomically(out / "coverage.png", plot.png)
