"""Prints tables on a terminal without cutting or breaking any cell."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ensemble_eval.cli.output import encodable, print_sentence
from ensemble_eval.tables.table import Table, table_of

if TYPE_CHECKING:
    from rich.console import Console

    from ensemble_eval.evaluation.finishing import Outcome
    from ensemble_eval.scoring.table3 import Gain

# Columns of Table 3 in the order in which they are left out; models, crops and the top-5 error stay.
_TABLE3_DISPENSABLE = ("cost", "paper_top5_error", "compared_to_base", "top1_error", "top5")


def print_table3(outcome: "Outcome", console: "Console | None" = None) -> None:
    """Print Table 3 and its path, to stdout by default."""
    from rich.console import Console

    console = console or Console(markup=False, emoji=False)
    if not outcome.rows:
        print_sentence(console, str(outcome))
        return
    print_table(console, table3_for_people(outcome), _TABLE3_DISPENSABLE)
    if outcome.gain is not None:
        print_sentence(console, gain_text(outcome.gain))
    if outcome.passes_saved:
        print_sentence(console, saved_text(outcome.passes, outcome.passes_saved))
    console.print(f"written to {outcome.table}", highlight=False, soft_wrap=True)


def table3_for_people(outcome: "Outcome") -> Table:
    """Return Table 3 with the errors of the paper beside it, and with short titles for a terminal."""
    from ensemble_eval.scoring.table3 import COLUMNS, SHOWN

    comparable = " (not comparable)" if outcome.counted else ""
    published = outcome.published
    whose = "the paper's" if published.of_the_paper else "published"
    beside = f", and {whose} top-5{comparable}" if published.errors else ""
    first = f"Errors on {outcome.rows[0].images} images{beside}; one model is {outcome.one_model_member}"
    title = "\n".join([first, *(f"counted: {phrase}" for phrase in outcome.counted)])
    table = table_of("table3", title, outcome.rows, [*COLUMNS, *published.columns()])
    table = table.only(*SHOWN, *(["paper_top5_error"] if published.errors else []))
    return table.titled(
        top5_error="top-5", top1_error="top-1", paper_top5_error="paper" if published.of_the_paper else "published"
    )


def gain_text(gain: "Gain") -> str:
    """Return a sentence that compares the largest configuration with the base."""
    relative = "" if gain.relative is None else f" ({gain.relative:+.0f}% of the base's error)"
    return (
        f"last row against the first: {gain.difference:+.2f} points of top-5 error{relative}; "
        f"95% interval of the difference, paired by image: {gain.low:+.2f} to {gain.high:+.2f}"
    )


def saved_text(passes: int, saved: int) -> str:
    """Return a sentence on the passes that early exit saved."""
    full = passes + saved
    return f"{passes} passes decided the table; in full they would have been {full} ({100 * passes / full:.1f}%)"


def print_table(console: "Console", table: Table, dispensable: Sequence[str | Sequence[str]] = ()) -> None:
    """Print a table with its title and notes: as many columns as fit, or stacked lines if too few fit.

    Args:
        console: The console.
        table: The table; each line of its title is a sentence.
        dispensable: Keys of columns, or groups of keys, in the order in which they are left out if they do not
            fit.
    """
    for sentence in table.title.splitlines():
        print_sentence(console, sentence)
    _print_grid(console, table, [[keys] if isinstance(keys, str) else keys for keys in dispensable])
    for note in table.notes:
        print_sentence(console, note)


def _print_grid(console: "Console", table: Table, dispensable: Sequence[Sequence[str]]) -> None:
    from rich.table import Table as Grid

    titles = [column.title for column in table.columns]
    header, *lines = ([encodable(cell, console.encoding) for cell in line] for line in (titles, *table.cells()))
    widths = [max(map(len, cells)) for cells in zip(header, *lines, strict=True)]
    groups = [[index for index, each in enumerate(table.columns) if each.key in keys] for keys in dispensable]
    fitting = fitting_columns(widths, groups, console.width)
    if fitting is None:
        for line in lines:
            console.print("\n".join(stacked(header, line, console.width)), "", sep="\n", highlight=False)
        return
    columns, padding = fitting
    grid = Grid(padding=(0, padding))
    for column in columns:
        is_text = table.columns[column].is_text
        grid.add_column(header[column], justify="left" if is_text else "right", no_wrap=True)
    for line in lines:
        grid.add_row(*(line[column] for column in columns))
    console.print(grid)
    if missing := [title for column, title in enumerate(header) if title and column not in columns]:
        print_sentence(console, f"no room in {console.width} columns for: {', '.join(missing)}")


def fitting_columns(
    widths: Sequence[int], dispensable: Sequence[Sequence[int]], width: int
) -> tuple[list[int], int] | None:
    """Return the columns to show and the padding of cells; None if not even the last columns fit.

    Padding is dropped before columns are.

    Args:
        widths: The widths of the columns in characters.
        dispensable: Groups of columns, in the order in which they are left out.
        width: The width of the terminal in characters.
    """
    columns = set(range(len(widths)))
    for group in ((), *dispensable):
        columns -= set(group)
        for padding in (1, 0):
            if sum(widths[column] + 2 * padding + 1 for column in columns) + 1 <= width:
                return sorted(columns), padding
    return None


def stacked(header: Sequence[str], line: Sequence[str], width: int) -> Iterator[str]:
    """Yield the cells of a row as lines with their titles, or as two lines each if one is too short."""
    for title, cell in zip(header, line, strict=True):
        if not cell:
            continue
        both = f"{title} {cell}".strip()
        yield from [both] if len(both) <= width else [title, cell]
