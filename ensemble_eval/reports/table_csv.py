"""Tables as CSV, which pandas opens in one line."""

from ensemble_eval.files import csv_text
from ensemble_eval.reports.tables import Table, stored


def table_csv(table: Table) -> str:
    """A header and one line per row; the table's marks are last columns with the same in every line.

    Example:
        >>> from ensemble_eval.reports.tables import Column
        >>> columns = (Column("size", "members", "count"), Column("error", "error", "percent"))
        >>> table_csv(Table("sizes", "Errors by size", columns, ((1, 10.07), (7, None))))
        'size,error\\n1,10.0700\\n7,\\n'
    """
    keys = [key for column in table.columns for key in column.keys]
    values = [mark.value for mark in table.marks]
    return csv_text(
        [*keys, *(mark.column for mark in table.marks)],
        (
            [*(text for cell in zip(row, table.columns, strict=True) for text in stored(*cell)), *values]
            for row in table.rows
        ),
    )
