"""`ensemble-eval merge`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH
from ensemble_eval.cli.output import warn
from ensemble_eval.errors import InputError


@click.command()
@click.argument("folders", metavar="DIR...", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder for the results; it may be one of DIR.")
def merge(folders: tuple[Path, ...], out: Path) -> int:
    """Bring the results of one run from several folders together.

    For results from file systems that do not meet. If no image is missing, the tables are written. Otherwise
    `run` with --out on the merged folder does the rest.
    """
    from ensemble_eval.cli.tables import print_table3
    from ensemble_eval.results import merging

    merged = merging.merge(folders, out)
    for path in merged.damaged:
        warn(f"{path} had changed since it was written and is left out")
    if merged.outcome is None:
        missing = merged.images - len(merged.progress.accounted)
        raise InputError(
            f"{missing} of {merged.images} images are missing, so no table is written; "
            f"run the evaluation with --out {out} to do them"
        )
    print_table3(merged.outcome)
    return 3 if merged.outcome.unreadable else 0
