"""`ensemble-eval describe`."""

import click


@click.command()
@click.option("--arch", default="googlenet-paper", show_default=True, help="Architecture of the registry.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Multiplies every channel count.")
@click.option("--classes", type=int, default=1000, show_default=True, help="Outputs of the classifier.")
def describe(arch: str, width: float, classes: int) -> None:
    """Print Table 1 of the paper with what is counted beside it, and check two claims."""
    from rich.console import Console

    from ensemble_eval.cli.output import print_sentence
    from ensemble_eval.cli.tables import print_table
    from ensemble_eval.paper.counting import count_network
    from ensemble_eval.paper.description import claim_lines, table1_text

    counts = count_network(arch, classes, width=width)
    header, *lines = table1_text(counts)
    console = Console(markup=False, emoji=False)
    print_sentence(console, f"Table 1: {arch}, width {width:g}, {classes} classes")
    # The output's size goes first, then the multiply-adds with what is printed of them and the mark.
    print_table(console, header, lines, [(1,), (5, 6, 7)], left_aligned=(0,))
    for sentence in claim_lines(counts):
        print_sentence(console, sentence)
