"""The class of all tables: typed columns, marks, and the text of their cells."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

# A pair is an interval from low to high.
Value = str | int | float | bool | tuple[float, float] | None
Kind = Literal[
    "text", "count", "percent", "points", "fraction", "number", "p", "percent interval", "points interval"
]

ItemT = TypeVar("ItemT")
PartT = TypeVar("PartT")
FilledColumn = tuple[str, str, Kind, Callable[[ItemT], Value]]
"""The key, title and kind of a column, and a function from the item of a row to the value of its cell."""

NOTHING = "–"
# Spreadsheets recognise a formula by its first character.
_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Its name in CSV; an interval becomes `KEY_low` and `KEY_high`.
        title: Its heading in all other formats.
        kind: The kind of its cells. `percent` is an error, `points` the difference of two errors in percentage
            points, `p` a p-value, `fraction` a share from 0 to 1, `number` any other measurement.
    """

    key: str
    title: str
    kind: Kind = "text"

    @property
    def is_text(self) -> bool:
        """Whether cells are text, which is left-aligned; numbers are right-aligned."""
        return self.kind == "text"

    @property
    def keys(self) -> tuple[str, ...]:
        """Its columns in CSV."""
        return (f"{self.key}_low", f"{self.key}_high") if self.kind.endswith("interval") else (self.key,)


@dataclass(frozen=True)
class Mark:
    """A remark in every format of a table, and in every plot, if the numbers do not cover all images and classes.

    Attributes:
        column: The name of a column in CSV.
        value: The value of that column in every line.
        note: A sentence.
        before_title: Text before the title.
    """

    column: str
    value: str
    note: str
    before_title: str = ""


@dataclass(frozen=True)
class Table:
    """A table, ready for any format.

    Attributes:
        name: The stem of its files, and its anchor in a page.
        title: A phrase above it.
        columns: Its columns.
        rows: The values of its cells; None for an unknown value.
        notes: Sentences below it.
        marks: Remarks that `marked` has added.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()

    def cells(self) -> list[list[str]]:
        """The text of all cells, row by row."""
        kinds = [column.kind for column in self.columns]
        return [[shown(*cell) for cell in zip(row, kinds, strict=True)] for row in self.rows]

    def only(self, *keys: str) -> "Table":
        """The same table with the columns of these keys, in this order."""
        positions = [[column.key for column in self.columns].index(key) for key in keys]
        return replace(
            self,
            columns=tuple(self.columns[position] for position in positions),
            rows=tuple(tuple(row[position] for position in positions) for row in self.rows),
        )

    def titled(self, **titles: str) -> "Table":
        """The same table with new titles for some columns, by their key."""
        columns = tuple(replace(each, title=titles.get(each.key, each.title)) for each in self.columns)
        return replace(self, columns=columns)

    def without(self, *keys: str) -> "Table":
        """The same table without these columns."""
        return self.only(*(column.key for column in self.columns if column.key not in keys))

    def first(self, rows: int) -> "Table":
        """The same table with at most this many rows; a note says how many there are."""
        if len(self.rows) <= rows:
            return self
        note = f"The first {rows} of {len(self.rows)} rows; {self.name}.csv has all of them."
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
    """Columns about a part of each item; their cells are empty for items without that part."""

    def of_part(value: Callable[[PartT], Value]) -> Callable[[ItemT], Value]:
        return lambda item: None if (part := part_of(item)) is None else value(part)

    return [(key, title, kind, of_part(value)) for key, title, kind, value in columns]


def marks(missing: int, images: int, counted: Sequence[str] = (), clusters: int = 0) -> tuple[Mark, ...]:
    """The marks for the tables of a run; none if its errors cover all images and classes, which are independent.

    Args:
        missing: The number of images that are neither evaluated nor unreadable.
        images: The number of images of the whole data set.
        counted: Phrases that state which images and classes the errors cover, if these are not all.
        clusters: The number of clusters that intervals and tests respect; 0 if images are independent.
    """
    found = []
    if missing:
        note = (
            f"{missing} of {images} images are missing, so every number here may change and none is a reason to "
            "stop."
        )
        found.append(Mark("partial", "True", note, "Partial: "))
    if counted:
        found.append(Mark("counted", "; ".join(counted), counted_sentence(counted)))
    if clusters:
        note = f"Intervals and tests over images treat the images of a cluster as dependent ({clusters} clusters)."
        found.append(Mark("clusters", str(clusters), note))
    return tuple(found)


def counted_sentence(counted: Sequence[str]) -> str:
    """A sentence that states which images and classes the errors of a run cover."""
    return f"Counted: {'; '.join(counted)}."


def marked(table: Table, marks: Sequence[Mark]) -> Table:
    """The same table with some marks."""
    return replace(
        table,
        title="".join([*(mark.before_title for mark in marks), table.title]),
        notes=(*(mark.note for mark in marks), *table.notes),
        marks=tuple(marks),
    )


def shown(value: Value, kind: Kind) -> str:
    """The text of a cell for people.

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


def stored(value: Value, kind: Kind) -> list[str]:
    """The text of a cell in CSV: percentages and points with four decimals, fractions with six; empty if unknown.

    An apostrophe precedes text that a spreadsheet would run as a formula, such as `=cmd()`.

    Example:
        >>> stored("=1+1", "text"), stored(-1.5, "points")
        (["'=1+1"], ['-1.5000'])
    """
    if value is None:
        return ["", ""] if kind.endswith("interval") else [""]
    if isinstance(value, tuple):
        return [_decimals(bound, 4) for bound in value]
    if isinstance(value, str):
        return [f"'{value}" if value.startswith(_FORMULA_BEGINNINGS) else value]
    if isinstance(value, int):
        return [str(value)]
    if kind in ("percent", "points"):
        return [_decimals(value, 4)]
    return [_decimals(value, 6) if kind == "fraction" else f"{value:.6g}"]


_WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def in_words(count: int, noun: str) -> str:
    """A number of things, with the number as a word up to twelve.

    Example:
        >>> in_words(7, "model"), in_words(1, "crop"), in_words(50_000, "image")
        ('seven models', 'one crop', '50,000 images')
    """
    number = _WORDS[count] if count < len(_WORDS) else f"{count:,}"
    return f"{number} {noun}{'' if count == 1 else 's'}"


def _signed(points: float) -> str:
    rounded = round(points, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def _decimals(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    # A negative number that rounds to zero must not become "-0.0000".
    return text.removeprefix("-") if not float(text) else text
