"""A table of any subject, before it becomes text: what its columns mean, and how their cells are said."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

# A pair is an interval, low and high.
Value = str | int | float | bool | tuple[float, float] | None
Kind = Literal[
    "text", "count", "percent", "points", "fraction", "number", "p", "percent interval", "points interval"
]

ItemT = TypeVar("ItemT")
PartT = TypeVar("PartT")
FilledColumn = tuple[str, str, Kind, Callable[[ItemT], Value]]
"""A column's key, title and kind, and what it shows of an item: a row of a table is an item."""

NOTHING = "–"
# Spreadsheets take a cell for a formula by its first character.
_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: its name in CSV; an interval becomes `KEY_low` and `KEY_high`.
        title: its heading for people.
        kind: what its cells are. `percent` is an error, `points` a difference of two in percentage points, `p` a
            p-value, `fraction` a share from 0 to 1, `number` anything else that is measured.
    """

    key: str
    title: str
    kind: Kind = "text"

    @property
    def is_text(self) -> bool:
        """Whether cells are words, which stand at the left; numbers stand at the right."""
        return self.kind == "text"

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that it takes in CSV."""
        return (f"{self.key}_low", f"{self.key}_high") if self.kind.endswith("interval") else (self.key,)


@dataclass(frozen=True)
class Mark:
    """What every format of a table says, and every plot, because the numbers are not the usual ones.

    Attributes:
        column: its name in CSV.
        value: what that column has in every line.
        note: a sentence.
        before_title: what stands before the title.
    """

    column: str
    value: str
    note: str
    before_title: str = ""


@dataclass(frozen=True)
class Table:
    """A table, ready for any format.

    Attributes:
        name: the stem of its files, and its anchor in a page.
        title: what stands above it, a phrase.
        columns: of it.
        rows: cells, as many as columns; None where a cell is not known.
        notes: sentences that stand below it.
        marks: what `marked` has marked it with.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()

    def cells(self) -> list[list[str]]:
        """What people read, row by row."""
        kinds = [column.kind for column in self.columns]
        return [[shown(*cell) for cell in zip(row, kinds, strict=True)] for row in self.rows]

    def only(self, *keys: str) -> "Table":
        """The same table with these columns, in this order.

        Args:
            keys: of columns.
        """
        places = [[column.key for column in self.columns].index(key) for key in keys]
        return replace(
            self,
            columns=tuple(self.columns[place] for place in places),
            rows=tuple(tuple(row[place] for place in places) for row in self.rows),
        )

    def titled(self, **titles: str) -> "Table":
        """The same table with other titles of some columns, by their key."""
        columns = tuple(replace(each, title=titles.get(each.key, each.title)) for each in self.columns)
        return replace(self, columns=columns)

    def without(self, *keys: str) -> "Table":
        """The same table without these columns."""
        return self.only(*(column.key for column in self.columns if column.key not in keys))

    def first(self, rows: int, what: str) -> "Table":
        """The same table with its first rows; a note says how many there are.

        Args:
            rows: to keep at most.
            what: the rows are, in the plural.
        """
        if len(self.rows) <= rows:
            return self
        note = f"The first {rows} of {len(self.rows)} {what}; {self.name}.csv has all."
        return replace(self, rows=self.rows[:rows], notes=(*self.notes, note))


def table_of(
    name: str,
    title: str,
    items: Iterable[ItemT],
    columns: Sequence[FilledColumn[ItemT]],
    notes: Iterable[str] = (),
) -> Table:
    """A table with a row for each of some items.

    Example:
        >>> sizes = table_of("sizes", "Squares", [2, 3], [("square", "its square", "count", lambda side: side**2)])
        >>> sizes.rows
        ((4,), (9,))
    """
    return Table(
        name,
        title,
        tuple(Column(*column[:3]) for column in columns),
        tuple(tuple(column[3](item) for column in columns) for item in items),
        tuple(notes),
    )


def filled_from(
    part_of: Callable[[ItemT], PartT | None], columns: Iterable[FilledColumn[PartT]]
) -> list[FilledColumn[ItemT]]:
    """Columns that show something of a part of each item, and nothing where an item lacks it."""

    def of_part(value: Callable[[PartT], Value]) -> Callable[[ItemT], Value]:
        return lambda item: None if (part := part_of(item)) is None else value(part)

    return [(key, title, kind, of_part(value)) for key, title, kind, value in columns]


def marks(missing: int, images: int, counted: Sequence[str] = ()) -> tuple[Mark, ...]:
    """How the tables of a run are marked: none where it is finished and counts as usual.

    Args:
        missing: images that are neither evaluated nor unreadable.
        images: of the whole data set.
        counted: what the errors are counted over, in one phrase each; none for the usual.
    """
    found = []
    if missing:
        note = f"{missing} of {images} images are missing, so every number here may change."
        found.append(Mark("partial", "True", note, "Partial: "))
    if counted:
        found.append(Mark("counted", "; ".join(counted), counted_sentence(counted)))
    return tuple(found)


def counted_sentence(counted: Sequence[str]) -> str:
    """What the errors of a run are counted over, as every table, plot and page says it."""
    return f"Counted: {'; '.join(counted)}."


def marked(table: Table, marks: Sequence[Mark]) -> Table:
    """The same table with these marks."""
    return replace(
        table,
        title="".join([*(mark.before_title for mark in marks), table.title]),
        notes=(*(mark.note for mark in marks), *table.notes),
        marks=tuple(marks),
    )


def shown(value: Value, kind: Kind) -> str:
    """A cell as people read it.

    Example:
        >>> shown(6.6712, "percent"), shown(-0.001, "points")
        ('6.67%', '0.00')
        >>> shown((-3.61, -3.19), "points interval")
        '-3.61 to -3.19'
    """
    if value is None:
        return NOTHING
    if isinstance(value, tuple):
        low, high = value
        if kind == "points interval":
            return f"{_signed(low)} to {_signed(high)}"
        return f"{low:.1f} to {high:.1f}%"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    match kind:
        case "percent":
            return f"{value:.2f}%"
        case "points":
            return _signed(value)
        case "p":
            return "<0.001" if value < 0.001 else f"{value:.2g}"
        case "fraction":
            return f"{value:.3f}"
        case _:
            return f"{value:.4g}"


def stored(value: Value, column: Column) -> list[str]:
    """A cell as CSV has it: percentages and points with four decimals, fractions with six; empty if not known.

    An apostrophe stands before words that a spreadsheet would run as a formula, as `=cmd()`.

    Example:
        >>> stored("=1+1", Column("class", "class")), stored(-1.5, Column("moved", "moved by", "points"))
        (["'=1+1"], ['-1.5000'])
    """
    if value is None:
        return [""] * len(column.keys)
    if isinstance(value, tuple):
        return [_decimals(bound, 4) for bound in value]
    if isinstance(value, str):
        return [f"'{value}" if value.startswith(_FORMULA_BEGINNINGS) else value]
    if isinstance(value, int):
        return [str(value)]
    if column.kind in ("percent", "points"):
        return [_decimals(value, 4)]
    return [_decimals(value, 6) if column.kind == "fraction" else f"{value:.6g}"]


def _signed(points: float) -> str:
    rounded = round(points, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def _decimals(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    # What rounds to zero from below must not read "-0.0000".
    return text.removeprefix("-") if not float(text) else text
