"""`ensemble-eval status`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble_eval.cli.options import PATH, command
from ensemble_eval.cli.output import say
from ensemble_eval.errors import EnsembleEvalError

if TYPE_CHECKING:
    from ensemble_eval.store.status import Status

# Parts are written every half minute. After this time without one, the status says so.
_SILENT_SECONDS = 120.0


@command("ensemble-eval status results")
@click.argument("out", type=PATH)
def status(out: Path) -> None:
    """Show how much of the job in OUT is done: a folder of `run`, `propose` or `detect`.

    Reads nothing but its parts, so it works on any machine that sees the folder, while the job runs. Below stands
    the table of the images that are done.
    """
    from ensemble_eval.detection.formats import formats_in
    from ensemble_eval.evaluation.key import RUN
    from ensemble_eval.store.status import read_status

    forms = formats_in(out)
    for form in forms:
        if len(forms) > 1:
            say(form.folder)
        now = read_status(out, form)
        _say_status(now, out / now.last_file)
    if RUN in forms:
        _print_table(out)


def _say_status(now: "Status", last: Path) -> None:
    import time

    from ensemble_eval.cli.progress import duration

    say(f"done        {now.done} of {now.images} images, {now.passes} passes")
    say(f"missing     {now.missing}")
    say(f"unreadable  {now.unreadable}")
    if now.damaged:
        say(f"damaged     {len(now.damaged)} parts; the next start does their images again")
    say(f"pace        {now.images_per_second:.2f} images/s")
    silent = time.time() - now.newest
    if not now.missing:
        say("time left   none" + ("" if last.exists() else f"; run the command once more for {last.name}"))
    elif silent > _SILENT_SECONDS:
        say(f"time left   {duration(now.seconds_left)} once it runs; nothing came for {duration(silent)}")
    else:
        say(f"time left   {duration(now.seconds_left)}")


def _print_table(out: Path) -> None:
    from rich.console import Console

    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.evaluation.finishing import partial_table

    try:
        table = partial_table(out)
    except EnsembleEvalError as error:
        say(f"table       {error}")
        return
    if table is None:
        return
    # Models, crops, the top-5 error and its interval are always shown.
    print_table(Console(markup=False, emoji=False), table, ["cost", "top1_error", "compared_to_base"])
