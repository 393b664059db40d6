"""`ensemble-eval propose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.interruption import perform
from ensemble_eval.cli.options import PATH, command, options_of, settings_from
from ensemble_eval.cli.output import say, warn
from ensemble_eval.errors import UNREADABLE_EXIT_CODE
from ensemble_eval.settings import SHIPPED_MULTIBOX, ProposeSettings

if TYPE_CHECKING:
    from ensemble_eval.datasets.items import Dataset
    from ensemble_eval.detection.proposing import Proposed, ProposeJob


@command("ensemble-eval propose val/ --sets rcnn,multibox --boxes val/boxes.json")
@click.argument("dataset", type=PATH)
@options_of(ProposeSettings)
def propose(dataset: Path, **options: Any) -> int:
    """Propose boxes that may hold an object in every image of DATASET.

    Writes proposals/ to --out, and with --boxes coverage.csv and a curve. The same command
    continues an interrupted run. Under torchrun or srun it takes its share of the images. Selective search needs
    the extra [detection].
    """
    options["multibox"] = options["multibox"] or (SHIPPED_MULTIBOX if SHIPPED_MULTIBOX.is_file() else None)
    settings = settings_from(ProposeSettings, options)
    return perform(lambda: _job(dataset, settings), lambda proposed: _show(proposed, dataset, settings))


def _job(dataset: Path, settings: ProposeSettings) -> "ProposeJob":
    from ensemble_eval.detection.proposing import ProposeJob

    return ProposeJob(_images(dataset, settings), settings)


def _images(dataset: Path, settings: ProposeSettings) -> "Dataset":
    from ensemble_eval.datasets.opening import open_dataset
    from ensemble_eval.evaluation.opening import another_lists

    return open_dataset(dataset, ["object"], "none", listed_in=settings.out, as_listed=another_lists())


def _show(proposed: "Proposed", dataset: Path, settings: ProposeSettings) -> int:
    for name, count in proposed.boxes.items():
        say(f"{name}: {count:.1f} proposals an image")
    if settings.boxes is not None:
        _say_coverage(settings.out, _images(dataset, settings), settings.boxes)
    say(f"written to {settings.out}")
    for image, name, reason in proposed.failed[:3]:
        warn(f"{image} has no proposals of {name}: {reason}")
    if proposed.failed:
        warn(f"{len(proposed.failed)} searches failed; see {settings.out / 'unreadable.csv'}")
    return UNREADABLE_EXIT_CODE if proposed.failed else 0


def _say_coverage(out: Path, dataset: "Dataset", boxes: Path) -> None:
    from ensemble_eval.datasets.boxes import class_names_in, read_boxes
    from ensemble_eval.detection.proposals import StoredProposals
    from ensemble_eval.detection.proposing import coverage_of_sets, coverage_plot, write_coverage
    from ensemble_eval.errors import MissingExtraError
    from ensemble_eval.files import write_atomically

    objects = read_boxes(boxes, class_names_in(boxes), [item.id for item in dataset.items])
    stored = StoredProposals(out, dataset)
    found = coverage_of_sets(stored, objects, list(stored.stores))
    for name, each in found.items():
        say(
            f"{name}: {each.boxes_per_image:.1f} proposals an image cover {100 * each.at_half[-1]:.1f}% of "
            f"{each.objects} objects at an overlap of 0.5, and {100 * each.mean[-1]:.1f}% in the mean to 0.95"
        )
    say(f"coverage by number of proposals: {write_coverage(out, found)}")
    try:
        plot = coverage_plot(found).drawn()
    except MissingExtraError as error:
        warn(f"no curve of the coverage is drawn: {error}")
        return
    write_atomically(out / "coverage.svg", plot.svg.encode())
    write_atomically(out / "coverage.png", plot.png)
