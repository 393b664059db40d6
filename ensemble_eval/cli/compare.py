"""`ensemble-eval compare`."""

from pathlib import Path

import click

from ensemble_eval.cli.options import MARGIN, PATH, command


@command("ensemble-eval compare results-float32 results-bfloat16")
@click.argument("runs", metavar="DIR DIR...", nargs=-1, type=PATH)
@MARGIN
def compare(runs: tuple[Path, ...], margin: float) -> None:
    """Compare two or more runs over the same images, given their --out folders.

    Each run is compared with the first: one model and all models, with each scheme. It tells how many images the
    run fixes and breaks, the difference of the errors with its interval, and whether a test finds it better,
    worse, or equal within --margin. The runs may have other members. This needs the extra [report].

    Where members and schemes are the same, it also counts the images that only one of two runs decides right, and
    those whose label has another rank. Where both stored scores, it tells the largest difference between two of
    them.
    """
    from rich.console import Console

    from ensemble_eval.cli.comparison_tables import print_decisions, print_errors
    from ensemble_eval.cli.output import print_sentence, warn
    from ensemble_eval.errors import InputError, MissingExtraError
    from ensemble_eval.results.compare import require_same_rows
    from ensemble_eval.results.reading import read_run

    if len(runs) < 2:
        raise InputError("name two or more output folders; the first is what the others are compared with")
    opened = [read_run(run) for run in runs]
    console = Console(markup=False, emoji=False)
    try:
        print_errors(console, opened, margin)
    except MissingExtraError as error:
        warn(f"no tests and intervals: {error}")
    for other in opened[1:]:
        try:
            require_same_rows(opened[0], other)
        except InputError as error:
            print_sentence(console, f"Single decisions are not compared: {error}")
        else:
            print_decisions(console, opened[0], other)
