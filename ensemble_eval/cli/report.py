"""`ensemble-eval report`."""

from pathlib import Path
from typing import Any

import click

from ensemble_eval.cli.options import CLUSTER, MARGIN, PATH, command


@command("ensemble-eval report results --data val/")
@click.argument("run", metavar="DIR", type=PATH)
@click.option("--out", type=PATH, help="Folder for the report.  [default: DIR/report]")
@MARGIN
@CLUSTER
@click.option("--recipe", metavar="A,B,…", help="Members that one recipe trained; adds intervals over members.")
@click.option(
    "--labels", type=PATH, multiple=True, help="Another file of labels; adds the errors under it; repeatable."
)
@click.option("--blacklist", type=PATH, help="Blacklist of validation images; adds the errors without them.")
@click.option("--partial", is_flag=True, help="Report on an unfinished run; every table is marked as partial.")
@click.option("--data", type=PATH, help="The data set that was evaluated, for a gallery of the hardest images.")
@click.option(
    "--classes",
    help="Names of the classes: imagenet-1k, or a text file with one per line.  [default: class folders]",
)
@click.option("--no-gallery", is_flag=True, help="Leave out the gallery, and do not say how to get it.")
@click.option("--no-paper", is_flag=True, help="Leave out what the paper prints, and Table 2.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap and of the folds.")
def report(run: Path, *, recipe: str | None, no_gallery: bool, no_paper: bool, **options: Any) -> None:
    """Write tables, plots and a page about the run in DIR, from its stored predictions.

    Needs neither weights nor a GPU, and the data set only for a gallery. It writes table3.csv, table3.md,
    table3.tex and report.html, every further table as CSV, and the plots as SVG and PNG. This needs the extra
    [report].
    """
    from ensemble_eval.cli.output import say, warn
    from ensemble_eval.cli.wording import spoken
    from ensemble_eval.reports.api import read_results

    members = recipe.split(",") if recipe else ()
    written = read_results(run).report(**options, recipe=members, gallery=not no_gallery, paper=not no_paper)
    if written.is_partial:
        warn("images are missing; every table is marked as partial")
    for sentence in written.findings:
        say(sentence)
    for sentence in written.left_out:
        say(spoken(f"left out: {sentence}"))
    say(f"written to {written.page}")
