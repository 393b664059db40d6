"""`ensemble-eval run`."""

from typing import TYPE_CHECKING, Any

import click

from ensemble_eval.cli.interruption import perform
from ensemble_eval.cli.options import PATH, command, options_of, settings_from
from ensemble_eval.cli.output import warn
from ensemble_eval.errors import UNREADABLE_EXIT_CODE
from ensemble_eval.settings import RunSettings

if TYPE_CHECKING:
    from ensemble_eval.evaluation.finishing import Outcome
    from ensemble_eval.evaluation.job import RunJob


@command("ensemble-eval run val/ --ensemble mine.toml --crops 144 --out results")
@click.argument("dataset", type=PATH)
@options_of(RunSettings)
def run(**options: Any) -> int:
    """Evaluate an ensemble on DATASET and write Table 3.

    DATASET is a folder of class folders, a folder of images with --labels, a tar archive of either, WebDataset
    shards ('val-{000..127}.tar') or Parquet files; what it was recognised as is said. Writes table3.csv,
    predictions/, run.json and unreadable.csv to --out. The same command continues an interrupted run.

    With several GPUs it starts one process for each. Under torchrun or srun it takes its share of the images.
    """
    return perform(lambda: _job(options), _show)


def _job(options: dict[str, Any]) -> "RunJob":
    from ensemble_eval.evaluation.job import RunJob
    from ensemble_eval.evaluation.opening import open_sources

    settings = settings_from(RunSettings, options)
    return RunJob(settings, open_sources(settings))


def _show(outcome: "Outcome") -> int:
    from ensemble_eval.cli.tables import print_table3

    print_table3(outcome)
    if not outcome.unreadable:
        return 0
    listed = outcome.table.with_name("unreadable.csv")
    warn(f"{len(outcome.unreadable)} unreadable images are not counted; see {listed}")
    return UNREADABLE_EXIT_CODE
