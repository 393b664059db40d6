"""`ensemble-eval status`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH
from ensemble_eval.cli.output import say
from ensemble_eval.errors import EnsembleEvalError

# Parts come every half minute; after this long without one it is fair to ask.
_SILENT_SECONDS = 120.0


@click.command()
@click.argument("out", type=PATH)
def status(out: Path) -> None:
    """Show how much of the run in OUT is done.

    Reads nothing but its parts, so it works on any machine that sees the folder, while the job runs. Below stands
    the table of the images that are done.
    """
    import time

    from ensemble_eval.cli.progress import duration
    from ensemble_eval.results.status import read_status

    now = read_status(out)
    say(f"done        {now.done} of {now.images} images, {now.passes} passes")
    say(f"missing     {now.missing}")
    say(f"unreadable  {now.unreadable}")
    if now.damaged:
        say(f"damaged     {len(now.damaged)} parts; the next start does their images again")
    say(f"pace        {now.images_per_second:.2f} images/s")
    silent = time.time() - now.newest
    if not now.missing:
        finished = (out / now.last_file).exists()
        say("time left   none" if finished else f"time left   none; run the command once more for {now.last_file}")
    elif silent > _SILENT_SECONDS:
        say(f"time left   {duration(now.seconds_left)} once it runs; nothing came for {duration(silent)}")
    else:
        say(f"time left   {duration(now.seconds_left)}")
    _print_table(out)


def _print_table(out: Path) -> None:
    from rich.console import Console

    from ensemble_eval.cli.output import print_sentence
    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.results.partial_table import read_partial_table

    try:
        partial = read_partial_table(out)
    except EnsembleEvalError as error:
        say(f"table       {error}")
        return
    if partial is None:
        return
    table = partial.table()
    console = Console(markup=False, emoji=False)
    print_sentence(console, table.title)
    header = [column.title for column in table.columns]
    # Models, crops, the top-5 error and its interval stay.
    dispensable = [(header.index(title),) for title in ("cost", "top-1 error", "to base")]
    print_table(console, header, table.cells(), dispensable)
    for note in table.notes:
        print_sentence(console, note)
