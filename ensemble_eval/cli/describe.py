"""`ensemble-eval describe`."""

import click


@click.command()
@click.option("--arch", default="googlenet-paper", show_default=True, help="Architecture of the registry.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Multiplies every channel count.")
@click.option("--classes", type=int, default=1000, show_default=True, help="Outputs of the classifier.")
def describe(arch: str, width: float, classes: int) -> None:
    """Print Table 1 with counted beside published parameters and multiply-adds, and check two claims."""
    from rich.console import Console
    from rich.table import Table

    from ensemble_eval.models.counting import count_network
    from ensemble_eval.models.description import claim_lines, table1_text

    counts = count_network(arch, classes, width=width)
    header, *lines = table1_text(counts)
    table = Table(title=f"Table 1: {arch}, width {width:g}, {classes} classes")
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index == 0 else "right")
    for line in lines:
        table.add_row(*line)
    console = Console(markup=False)
    console.print(table)
    for sentence in claim_lines(counts):
        console.print(sentence, highlight=False, soft_wrap=True)
