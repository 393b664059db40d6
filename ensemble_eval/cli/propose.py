"""`ensemble-eval propose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.interruption import perform
from ensemble_eval.cli.options import FRESH, PATH, distribution_options, option_of
from ensemble_eval.cli.output import say, warn
from ensemble_eval.fields import rule_of
from ensemble_eval.settings import ProposeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensemble_eval.datasets.items import Dataset
    from ensemble_eval.detection.coverage import SetCoverage
    from ensemble_eval.detection.proposing import Proposed, ProposeJob

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
@distribution_options(ProposeSettings)
@FRESH
def propose(dataset: Path, **options: Any) -> int:
    """Propose boxes that may hold an object in every image of DATASET.

    Writes proposals/ and propose.json to --out, and with --boxes coverage.csv and a curve. The same command
    continues an interrupted run. Under torchrun or srun it takes its share of the images. Selective search needs
    the extra [detection].
    """
    boxes = options.pop("boxes")
    options["sets"] = tuple(name.strip() for name in options["sets"].split(",") if name.strip())
    options["multibox"] = options["multibox"] or (_SHIPPED if _SHIPPED.is_file() else None)
    settings = ProposeSettings(**options)
    return perform(lambda: _job(dataset, settings), lambda proposed: _show(proposed, dataset, settings, boxes))


def _job(dataset: Path, settings: ProposeSettings) -> "ProposeJob":
    from ensemble_eval.detection.proposing import ProposeJob

    return ProposeJob(_images(dataset), settings)


def _images(dataset: Path) -> "Dataset":
    from ensemble_eval.datasets.opening import open_dataset

    return open_dataset(dataset, ["object"], "none")


def _show(proposed: "Proposed", dataset: Path, settings: ProposeSettings, boxes: Path | None) -> int:
    for name, count in proposed.boxes.items():
        say(f"{name}: {count:.1f} proposals an image")
    if boxes is not None:
        _say_coverage(settings.out, _images(dataset), boxes)
    say(f"written to {settings.out}")
    for image, name, reason in proposed.failed[:3]:
        warn(f"{image} has no proposals of {name}: {reason}")
    if proposed.failed:
        warn(f"{len(proposed.failed)} searches failed; see {settings.out / 'unreadable.csv'}")
    return 3 if proposed.failed else 0


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
