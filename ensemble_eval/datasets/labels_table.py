"""The table `file,label`: its rows, and whether its labels are class indices or class names."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import read_text

COLUMNS = ("file", "label")
_MAX_DIGITS = 9
_MAX_BYTES = 1 << 30


def read_labels(path: Path) -> dict[str, str]:
    """The text of each file's label, by file.

    The header may be written in capitals and with spaces around its names; there may be other columns.

    Raises:
        InputError: no UTF-8, no CSV, a header without the two columns or with one of them twice, cells beyond the
            header, or a file that is listed twice.
    """
    return {name: label.strip() for name, label in read_table(path, COLUMNS).items()}


def read_table(path: Path, columns: tuple[str, str]) -> dict[str, str]:
    """The cells of the second of two columns by those of the first; see `read_labels` for what is refused.

    Args:
        path: of a CSV with a header.
        columns: their names in lower case.
    """
    rows: dict[str, str] = {}
    lines = _lines(path)
    file_column, label_column, width = _columns(path, columns, next(lines, (1, []))[1])
    for number, cells in lines:
        if len(cells) > width:
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells under a header of {width}; put cells that hold "
                "a comma into double quotes"
            )
        cells += [""] * (width - len(cells))
        name = cells[file_column]
        if name in rows:
            raise InputError(f"{path}, line {number}: {name} is listed twice; keep one line")
        rows[name] = cells[label_column]
    return rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells of the lines that are not empty."""
    reader = csv.reader(io.StringIO(read_text(path, _MAX_BYTES), newline=""))
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error}); mend it") from error


def _columns(path: Path, columns: tuple[str, str], header: Sequence[str]) -> tuple[int, int, int]:
    """Where the two columns are, and how many columns there are."""
    names = [name.strip().casefold() for name in header]
    for name in columns:
        if names.count(name) > 1:
            raise InputError(f"{path}, line 1: the header has the column {name} twice; keep one")
        if name not in names:
            found = ",".join(header)
            raise InputError(f"the labels {path} need the header {','.join(columns)}; the first line is {found!r}")
    return names.index(columns[0]), names.index(columns[1]), len(names)


def resolve_labels(
    path: Path, rows: Mapping[str, str], num_classes: int, class_names: Sequence[str] | None
) -> dict[str, int]:
    """The class index of each file. All labels of a table are indices, or all are names.

    Args:
        path: of the table, for what is refused.
        rows: the label's text by file.
        num_classes: indices run from 0 to `num_classes - 1`.
        class_names: names in index order.

    Raises:
        InputError: a label is neither index nor name, only some are, or both readings are possible and differ.
    """
    by_name = {name: index for index, name in enumerate(class_names or ())}
    named = {file: by_name[text] for file, text in rows.items() if text in by_name}
    indexed = {file: int(text) for file, text in rows.items() if _is_index(text, num_classes)}
    if len(named) < len(rows) and len(indexed) < len(rows):
        allowed = f"a class index from 0 to {num_classes - 1}" + (" or a class name" if by_name else "")
        raise InputError(_neither(path, rows, named, indexed, allowed))
    if len(named) < len(rows):
        return indexed
    if len(indexed) == len(rows) and class_names is not None:
        for file, index in indexed.items():
            if index != named[file]:
                raise InputError(
                    f"{path}: the labels may be class indices or class names, which differ: {rows[file]!r} of "
                    f"{file} is the index of the class {class_names[index]!r}, or the name of the class with "
                    f"index {named[file]}; give the classes names that are not numbers"
                )
    return named


def _is_index(text: str, num_classes: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) < num_classes


def _neither(
    path: Path, rows: Mapping[str, str], named: Mapping[str, int], indexed: Mapping[str, int], allowed: str
) -> str:
    """Why the labels are neither all names nor all indices."""
    for file, text in rows.items():
        if file not in named and file not in indexed:
            return f"{path}: the label of {file} is {text!r}; it must be {allowed}"
    name, index = _first(named, indexed), _first(indexed, named)
    return (
        f"{path}: some labels are class names ({rows[name]!r} of {name}) and some class indices "
        f"({rows[index]!r} of {index}); write all of them in one way"
    )


def _first(these: Iterable[str], others: Mapping[str, int]) -> str:
    return next(file for file in these if file not in others)
