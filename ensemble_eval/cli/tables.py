"""Table 3 on a terminal, for the commands that end with it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ensemble_eval.results import Outcome


def print_table3(outcome: "Outcome") -> None:
    """Print the rows and where they were written."""
    from rich.console import Console
    from rich.table import Table

    from ensemble_eval.reports import gain_text, saved_text, table3_text

    header, *lines = table3_text(outcome.rows)
    images = outcome.rows[0].images
    errors = f"Errors on {images} images, and the paper's top-5; one model is {outcome.one_model_member}"
    table = Table(title=errors)
    for title in header:
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(*line)
    console = Console(markup=False)
    console.print(table)
    console.print(gain_text(outcome.gain), highlight=False, soft_wrap=True)
    if outcome.passes_saved:
        console.print(saved_text(outcome.passes, outcome.passes_saved), highlight=False, soft_wrap=True)
    console.print(f"written to {outcome.table}", highlight=False, soft_wrap=True)
