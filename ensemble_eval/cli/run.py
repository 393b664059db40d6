"""`ensemble-eval run`."""

import contextlib
from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.options import distribution_options, evaluation_options, settings_from
from ensemble_eval.cli.output import complain_of, warn
from ensemble_eval.cli.tables import print_table3
from ensemble_eval.errors import EnsembleEvalError, InterruptedRunError, LateRanksError, WorkerFailedError
from ensemble_eval.launch.cpu import keep_freed_memory, wait_without_spinning

if TYPE_CHECKING:
    from ensemble_eval.launch.place import Place
    from ensemble_eval.results.folder import Outcome


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
    from ensemble_eval.launch.place import find_place

    place = find_place()
    try:
        outcome = _evaluate(options, place)
    except InterruptedRunError as error:
        # Where several processes share a terminal, one speaks; of the others only their errors are seen.
        if place.reports:
            raise
        return error.exit_code
    except EnsembleEvalError as error:
        if place.world == 1:
            raise
        complain_of(error, f"rank {place.rank}: ")
        return error.exit_code
    if outcome is None:
        return 0
    print_table3(outcome)
    if not outcome.unreadable:
        return 0
    listed = outcome.table.with_name("unreadable.csv")
    warn(f"{len(outcome.unreadable)} unreadable images are not counted; see {listed}")
    return 3


def _evaluate(options: dict[str, Any], place: "Place") -> "Outcome | None":
    from ensemble_eval.cli.interruption import continuing_command, continuing_words, stoppable

    go_on = f"continue with: {continuing_command()}"
    if place.launched:
        # The command is not this process's own: it would be one process more.
        go_on = "start the same job again to continue, unless it goes back to the queue by itself"
    go_on = f"what was finished is kept, {go_on}"
    try:
        # Before the heavy imports: they take seconds, and a signal may come meanwhile.
        with stoppable(go_on) as stop:
            from ensemble_eval.cli.drawing import draw_run
            from ensemble_eval.evaluation.job import evaluate

            with contextlib.closing(evaluate(settings_from(options), place, stop, continuing_words())) as events:
                return draw_run(events, f"rank {place.rank}: " if place.world > 1 else "")
    except (LateRanksError, WorkerFailedError) as error:
        if not place.launched:
            error.add_note(go_on)
        raise
