"""Reads TOML tables into frozen dataclasses, and checks that every field is known, present and valid.

A field whose type is a dataclass is a table within the table.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import checked_value, rules_of, types_of
from ensemble_eval.files import read_text

Row = TypeVar("Row")
_MAX_BYTES = 1 << 20


def read(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: It is missing, unreadable, larger than a MiB, or not TOML.
    """
    try:
        return tomllib.loads(read_text(path, _MAX_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error


def fill(
    row_class: type[Row], table: Mapping[str, Any], place: str, *, required: Collection[str] = frozenset()
) -> Row:
    """Create an instance of a dataclass from a table.

    Args:
        row_class: The dataclass.
        table: Its fields by name.
        place: The location of the table, for messages.
        required: Fields that the table must have although they have a default.

    Raises:
        InputError: A field is unknown, missing or invalid.
    """
    values = checked(row_class, table, place, required)
    with located(place):
        return row_class(**values)


def checked(
    row_class: type, table: Mapping[str, Any], place: str, required: Collection[str] = frozenset()
) -> dict[str, Any]:
    """Check the fields of a dataclass in a table, and return them with their types; see `fill`."""
    known = {field.name: field for field in fields(row_class)}
    for name, field in known.items():
        optional = field.default is not MISSING or field.default_factory is not MISSING
        if name not in table and (name in required or not optional):
            raise InputError(f"{place}: the field {name!r} is missing; add it")
    if unknown := sorted(set(table) - set(known)):
        raise InputError(
            f"{place}: unknown field {unknown[0]!r}; remove it or fix its name (known are {', '.join(known)})"
        )
    return {name: _checked_field(row_class, name, value, place) for name, value in table.items()}


def _checked_field(row_class: type, name: str, value: Any, place: str) -> Any:
    expected = types_of(row_class)[name]
    for kind in (expected, *get_args(expected)):
        if is_dataclass(kind):
            checked_value(Mapping, f"{place}: {name}", value)
            return fill(kind, value, f"{place}, [{name}]")  # type: ignore[arg-type]  # it is a class
    return checked_value(expected, f"{place}: {name}", value, rules_of(row_class)[name])
