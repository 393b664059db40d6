"""Tables on a terminal, for the commands that print one: no cell is ever cut or broken."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ensemble_eval.cli.output import encodable, print_sentence

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.evaluation.finishing import Outcome

# Of Table 3, the first to go first; models, crops and the top-5 error stay.
_TABLE3_DISPENSABLE = ("cost", "paper", "to base", "top-1", "95% interval")


def print_table3(outcome: "Outcome", console: "Console | None" = None) -> None:
    """Print the rows and where they were written; to stdout, unless another console is given."""
    from rich.console import Console

    from ensemble_eval.paper.text import gain_text, saved_text, table3_text

    console = console or Console(markup=False, emoji=False)
    if not outcome.rows:
        print_sentence(console, str(outcome))
        return
    header, *lines = table3_text(outcome.rows)
    images = outcome.rows[0].images
    comparable = " (not comparable)" if outcome.counted else ""
    print_sentence(
        console,
        f"Errors on {images} images, and the paper's top-5{comparable}; one model is {outcome.one_model_member}",
    )
    for sentence in outcome.counted:
        print_sentence(console, f"counted: {sentence}")
    print_table(console, header, lines, [(header.index(title),) for title in _TABLE3_DISPENSABLE])
    if outcome.gain is not None:
        print_sentence(console, gain_text(outcome.gain))
    if outcome.passes_saved:
        print_sentence(console, saved_text(outcome.passes, outcome.passes_saved))
    console.print(f"written to {outcome.table}", highlight=False, soft_wrap=True)


def print_table(
    console: "Console",
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    dispensable: Sequence[Sequence[int]],
    *,
    left_aligned: Sequence[int] = (),
) -> None:
    """Print a table with as many columns as fit, or as stacked lines where they do not.

    Args:
        console: where to.
        header: a title per column; it may be empty.
        lines: cells, as many as titles.
        dispensable: groups of columns that are left out when not all fit, the first group first.
        left_aligned: columns of text; numbers stand at the right.
    """
    from rich.table import Table

    shown_header, *shown = ([encodable(cell, console.encoding) for cell in line] for line in (header, *lines))
    widths = [max(map(len, cells)) for cells in zip(shown_header, *shown, strict=True)]
    fitting = fitting_columns(widths, dispensable, console.width)
    if fitting is None:
        for line in shown:
            console.print("\n".join(stacked(shown_header, line, console.width)), "", sep="\n", highlight=False)
        return
    columns, padding = fitting
    table = Table(padding=(0, padding))
    for column in columns:
        table.add_column(shown_header[column], justify="left" if column in left_aligned else "right", no_wrap=True)
    for line in shown:
        table.add_row(*(line[column] for column in columns))
    console.print(table)
    if missing := [title for column, title in enumerate(shown_header) if title and column not in columns]:
        print_sentence(console, f"no room in {console.width} columns for: {', '.join(missing)}")


def fitting_columns(
    widths: Sequence[int], dispensable: Sequence[Sequence[int]], width: int
) -> tuple[list[int], int] | None:
    """The columns to show and the blanks at both sides of a cell; None if not even the last ones fit.

    Blanks go before columns do.

    Args:
        widths: of the columns, in characters.
        dispensable: groups of columns, the first to go first.
        width: characters in a line of the terminal.
    """
    columns = set(range(len(widths)))
    for group in ((), *dispensable):
        columns -= set(group)
        for padding in (1, 0):
            if sum(widths[column] + 2 * padding + 1 for column in columns) + 1 <= width:
                return sorted(columns), padding
    return None


def stacked(header: Sequence[str], line: Sequence[str], width: int) -> Iterator[str]:
    """A table's line as lines of their own, title and cell on two of them where one does not hold both."""
    for title, cell in zip(header, line, strict=True):
        if not cell:
            continue
        both = f"{title} {cell}".strip()
        yield from [both] if len(both) <= width else [title, cell]
