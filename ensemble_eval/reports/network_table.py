"""Table 1 of the paper, counted beside printed, as a table for any format."""

from collections.abc import Sequence

from ensemble_eval.paper.counting import DIFFERS, StageCount, claim_lines, table1_counts, table1_text
from ensemble_eval.reports.tables import Column, Table

_NOTE = f"{DIFFERS} marks a printed figure that the counted one does not round to. K is 1024 and M a million."


def network_table(counts: Sequence[StageCount], title: str) -> Table:
    """Table 1 for people: counts in K and M, as the paper prints them.

    Args:
        counts: of the network's stages.
        title: a phrase that names the network.

    Example:
        >>> from ensemble_eval.paper.counting import count_network
        >>> from ensemble_eval.reports.markdown import table_markdown
        >>> table = network_table(count_network("googlenet-paper", 1000), "Table 1")
        >>> print(table_markdown(table).splitlines()[4])
        | conv1 | 112×112×64 | 9.2K | 2.7K | ≠ | 118.0M | 34M | ≠ |
    """
    titles = ("layer", "output", "weights", "printed", "", "multiply-adds", "printed", "")
    columns = tuple(Column(f"column{place}", each) for place, each in enumerate(titles))
    rows = tuple(tuple(row) for row in table1_text(counts)[1:])
    return Table("table1", title, columns, rows, (_NOTE, *(f"{each}." for each in claim_lines(counts))))


def network_counts(counts: Sequence[StageCount], title: str) -> Table:
    """Table 1 for programs: whole counts, and what is printed as it stands in the paper.

    Args:
        counts, title: see `network_table`.
    """
    columns = (
        Column("layer", "layer"),
        Column("output", "output"),
        Column("weights", "weights", "count"),
        Column("weights_printed", "printed"),
        Column("multiply_adds", "multiply-adds", "count"),
        Column("multiply_adds_printed", "printed"),
    )
    return Table("table1", title, columns, tuple(table1_counts(counts)))
