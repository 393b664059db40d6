"""`ensemble-eval merge`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ensemble_eval.cli.options import PATH, command
from ensemble_eval.cli.output import say, warn
from ensemble_eval.errors import UNREADABLE_EXIT_CODE, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ensemble_eval.store.parts import Format

Found = TypeVar("Found")


@command("ensemble-eval merge results-a results-b --out results")
@click.argument("folders", metavar="DIR...", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, help="Folder for the results; it may be one of DIR.")
def merge(folders: tuple[Path, ...], out: Path) -> int:
    """Bring the results of one job from several folders together: of `run`, `propose` or `detect`.

    For results from file systems that do not meet. If no image is missing, the tables are written; those of
    `detect` need the annotations, and the same `detect` on the merged folder writes them. Otherwise the same
    command with --out on the merged folder does the rest.
    """
    from ensemble_eval.cli.tables import print_table3
    from ensemble_eval.detection.formats import DETECT, formats_in
    from ensemble_eval.evaluation.finishing import finish_run
    from ensemble_eval.evaluation.key import RUN

    forms = formats_in(*folders)
    if RUN in forms:
        outcome = _merged(folders, out, RUN, finish_run)
        print_table3(outcome)
        return UNREADABLE_EXIT_CODE if outcome.unreadable else 0
    if DETECT in forms:
        _merged(folders, out, DETECT, lambda store, _: store)
        say(f"all detections are in {out}; the same `detect` with --out {out} writes the tables")
        return 0
    from ensemble_eval.detection.proposing import finish_sets

    merged = []
    for form in forms:
        with_set = [folder for folder in folders if (folder / form.folder).is_dir()]
        merged.append(_merged(with_set, out, form, lambda store, start: (store, start)))
    # All sets of a folder are of one start.
    proposed = finish_sets([store for store, _ in merged], merged[0][1])
    say(f"written to {out}")
    return UNREADABLE_EXIT_CODE if proposed.failed else 0


def _merged(
    folders: "Sequence[Path]", out: Path, form: "Format[Any]", finish: "Callable[[Any, Any], Found]"
) -> Found:
    """What comes of all parts of one kind; images that are missing are an error."""
    from ensemble_eval.store.merging import merge

    merged = merge(folders, out, form, finish)
    for path in merged.damaged:
        warn(f"{path} had changed since it was written and is left out")
    if merged.outcome is None:
        missing = merged.images - len(merged.progress.accounted)
        raise InputError(
            f"{missing} of {merged.images} images are missing, so no table is written; "
            f"run the same command with --out {out} to do them"
        )
    return merged.outcome
