"""Rows to text: CSV for machines and papers. Pure functions, compared with == in the tests."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from ensemble_eval.files import csv_text
from ensemble_eval.paper.published import TABLE_3
from ensemble_eval.scoring.table3 import Gain, Row
from ensemble_eval.tables.table import Mark


def table3_csv(rows: Iterable[Row], marks: Sequence[Mark] = ()) -> str:
    """`table3.csv`: a header and one line per configuration, percentages with four decimals; marks come last."""
    values = [mark.value for mark in marks]
    return csv_text(
        [*(field.name for field in fields(Row)), *(mark.column for mark in marks)],
        ([*(_cell(value) for value in asdict(row).values()), *values] for row in rows),
    )


def unreadable_csv(unreadable: Iterable[tuple[str, str]]) -> str:
    """`unreadable.csv`: image and reason, sorted by image."""
    return csv_text(["image", "reason"], (list(pair) for pair in sorted(unreadable)))


def table3_text(rows: Sequence[Row]) -> list[list[str]]:
    """Table 3 for people: a header line, then one line of cells per configuration, the paper's beside it."""
    header = ["models", "crops", "cost", "top-5", "95% interval", "to base", "top-1", "paper"]
    return [header, *(_text_cells(row, is_base=row is rows[0]) for row in rows)]


def gain_text(gain: Gain) -> str:
    """One sentence on the largest configuration against the base."""
    relative = "" if gain.relative is None else f" ({gain.relative:+.0f}% of the base's error)"
    return (
        f"last row against the first: {gain.difference:+.2f} points of top-5 error{relative}; "
        f"95% interval of the difference, paired by image: {gain.low:+.2f} to {gain.high:+.2f}"
    )


def saved_text(passes: int, saved: int) -> str:
    """One sentence on the passes that were not needed."""
    full = passes + saved
    return f"{passes} passes decided the table; in full they would have been {full} ({100 * passes / full:.1f}%)"


def _text_cells(row: Row, *, is_base: bool) -> list[str]:
    published = TABLE_3.get((row.models, row.crops))
    return [
        str(row.models),
        str(row.crops),
        str(row.cost),
        f"{row.top5_error:.2f}%",
        f"{row.top5_low:.1f} to {row.top5_high:.1f}%",
        "base" if is_base else f"{round(row.compared_to_base, 2) + 0.0:+.2f}%",
        "–" if row.top1_error is None else f"{row.top1_error:.2f}%",
        "–" if published is None else f"{published:.2f}%",
    ]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    # A difference that rounds to zero from below must not read "-0.0000".
    return f"{value:.4f}".replace("-0.0000", "0.0000") if isinstance(value, float) else str(value)
