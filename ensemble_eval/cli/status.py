"""`ensemble-eval status`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import PATH
from ensemble_eval.cli.output import say

# Parts come every half minute; after this long without one it is fair to ask.
_SILENT_SECONDS = 120.0


@click.command()
@click.argument("out", type=PATH)
def status(out: Path) -> None:
    """Show how much of the run in OUT is done.

    Reads nothing but its parts, so it works on any machine that sees the folder, while the job runs.
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
        finished = (out / "table3.csv").exists()
        say("time left   none" if finished else "time left   none; run the command once more for the table")
    elif silent > _SILENT_SECONDS:
        say(f"time left   {duration(now.seconds_left)} once it runs; nothing came for {duration(silent)}")
    else:
        say(f"time left   {duration(now.seconds_left)}")
