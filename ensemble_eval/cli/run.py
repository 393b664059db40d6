"""`ensemble-eval run`."""

import contextlib
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.options import distribution_options, evaluation_options, settings_from
from ensemble_eval.cli.output import warn
from ensemble_eval.cli.tables import print_table3
from ensemble_eval.launch.cpu import keep_freed_memory, wait_without_spinning

if TYPE_CHECKING:
    from ensemble_eval.launch.place import Place


@click.command()
@evaluation_options
@distribution_options
def run(**options: Any) -> int:
    """Evaluate an ensemble on DATASET and write Table 3.

    DATASET is a folder of class folders, a folder of images with --labels, a tar archive of either, WebDataset
    shards ('val-{000..127}.tar') or Parquet files; what it was recognised as is said. Writes table3.csv,
    predictions/, run.json and unreadable.csv to --out. The same command continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    wait_without_spinning()
    keep_freed_memory()
    from ensemble_eval.cli.interruption import as_one_of
    from ensemble_eval.launch.place import find_place

    place = find_place()
    return as_one_of(place, lambda: _run(options, place))


def _run(options: dict[str, Any], place: "Place") -> int:
    from ensemble_eval.cli.interruption import continuable, continuing_words

    # Before the heavy imports: they take seconds, and a signal may come meanwhile.
    with continuable(place) as stop:
        from ensemble_eval.cli.drawing import draw_run
        from ensemble_eval.evaluation.job import evaluate

        with contextlib.closing(evaluate(settings_from(options), place, stop, continuing_words())) as events:
            outcome = draw_run(events, f"rank {place.rank}: " if place.world > 1 else "")
        if outcome is None:
            return 0
        print_table3(outcome)
    if not outcome.unreadable:
        return 0
    listed = outcome.table.with_name("unreadable.csv")
    warn(f"{len(outcome.unreadable)} unreadable images are not counted; see {listed}")
    return 3
