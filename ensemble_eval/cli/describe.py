"""`ensemble-eval describe`."""

import click

from ensemble_eval.cli.options import command


@command("ensemble-eval describe --arch googlenet-paper --format md")
@click.option("--arch", default="googlenet-paper", show_default=True, help="Architecture of the registry.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Multiplies every channel count.")
@click.option("--classes", type=int, default=1000, show_default=True, help="Outputs of the classifier.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "md", "tex"]),
    default="text",
    show_default=True,
    help="A table for the terminal, CSV with whole counts, Markdown, or LaTeX with booktabs.",
)
def describe(arch: str, width: float, classes: int, form: str) -> None:
    """Print Table 1 of the paper with what is counted beside it, and check two claims."""
    from rich.console import Console

    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.paper.counting import count_network, network_counts, network_table
    from ensemble_eval.tables.formats import table_csv, table_latex, table_markdown

    counts = count_network(arch, classes, width=width)
    title = f"Table 1: {arch}, width {width:g}, {classes} classes"
    table = network_counts(counts, title) if form == "csv" else network_table(counts, title)
    if form == "text":
        # The output's size goes first, then the multiply-adds with what is printed of them and the mark.
        multiply_adds = ("multiply_adds", "multiply_adds_printed", "multiply_adds_differ")
        print_table(Console(markup=False, emoji=False), table, ["output", multiply_adds])
        return
    formatted = {"csv": table_csv, "md": table_markdown, "tex": table_latex}[form]
    click.echo(formatted(table), nl=False)
