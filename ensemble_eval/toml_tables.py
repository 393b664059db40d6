"""TOML tables into frozen dataclasses: every field known, present, of its type and within its bounds."""

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ensemble_eval.errors import InputError, located
from ensemble_eval.files import read_text

Row = TypeVar("Row")
_MAX_BYTES = 1 << 20
_BOUNDS = "bounds"


@dataclass(frozen=True)
class _Bounds:
    low: float
    high: float
    above_low: bool
    below_high: bool

    def hold(self, value: float) -> bool:
        low_holds = value > self.low if self.above_low else value >= self.low
        return low_holds and (value < self.high if self.below_high else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low}" if self.above_low else f"at least {self.low}"
        return (
            low if self.high == math.inf else f"{low} and {'below' if self.below_high else 'at most'} {self.high}"
        )


def bounds(
    low: float, high: float = math.inf, *, above_low: bool = False, below_high: bool = False
) -> Mapping[str, _Bounds]:
    """A dataclass field's metadata: the numbers it may hold, the ends included unless said otherwise."""
    return {_BOUNDS: _Bounds(low, high, above_low, below_high)}


def read(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: missing, unreadable, larger than a MiB, or not TOML.
    """
    try:
        return tomllib.loads(read_text(path, _MAX_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error


def fill(
    row_class: type[Row], table: Mapping[str, Any], place: str, *, required: Collection[str] = frozenset()
) -> Row:
    """An instance of a dataclass from a table.

    Args:
        row_class: the dataclass.
        table: its fields by name.
        place: where the table stands, for the messages.
        required: fields that the table must have although the dataclass has a default for them.

    Raises:
        InputError: an unknown, missing or impossible field.
    """
    values = checked(row_class, table, place, required)
    with located(place):
        return row_class(**values)


def checked(
    row_class: type, table: Mapping[str, Any], place: str, required: Collection[str] = frozenset()
) -> dict[str, Any]:
    """The fields of a dataclass from a table, each of its type and within its bounds; see `fill`."""
    known = {field.name: field for field in fields(row_class)}
    for name, field in known.items():
        optional = field.default is not MISSING or field.default_factory is not MISSING
        if name not in table and (name in required or not optional):
            raise InputError(f"{place}: the field {name!r} is missing; add it")
    if unknown := sorted(set(table) - set(known)):
        raise InputError(
            f"{place}: unknown field {unknown[0]!r}; remove it or mend its name (known are {', '.join(known)})"
        )
    types = get_type_hints(row_class)
    return {name: _value(types[name], known[name], value, place) for name, value in table.items()}


def _value(expected: Any, field: "Field[Any]", value: Any, place: str) -> Any:
    """`value` as the field's type, checked against its bounds."""
    name = f"{place}: {field.name}"
    limits: _Bounds | None = field.metadata.get(_BOUNDS)
    if get_origin(expected) is UnionType:  # with None, which TOML cannot write
        expected = get_args(expected)[0]
    if get_origin(expected) is Literal:
        return _choice(name, get_args(expected), value)
    if get_origin(expected) is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(get_args(expected)):
            raise InputError(f"{name} is a list of {len(get_args(expected))} numbers, not {value!r}")
        return tuple(_number(f"{name}[{i}]", float, item, limits) for i, item in enumerate(value))
    if expected in (int, float):
        return _number(name, expected, value, limits)
    return _plain(name, get_origin(expected) or expected, value)


def _choice(name: str, choices: tuple[str, ...], value: Any) -> Any:
    if value not in choices:
        raise InputError(f"{name} is one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


def _number(name: str, expected: type, value: Any, limits: _Bounds | None) -> float:
    # A TOML boolean is an int to Python, and a whole number serves where a fraction may stand.
    accepted = Integral if expected is int else Real
    kind = "a whole number" if expected is int else "a number"
    if isinstance(value, bool) or not isinstance(value, accepted) or not math.isfinite(value):
        raise InputError(f"{name} is {kind}, not {value!r}")
    number: float = expected(value)
    if limits is not None and not limits.hold(number):
        raise InputError(f"{name} is {kind} {limits}, not {value!r}")
    return number


def _plain(name: str, expected: Any, value: Any) -> Any:
    if expected is bool:
        if not isinstance(value, bool):
            raise InputError(f"{name} is true or false, not {value!r}")
        return value
    if expected in (str, Path):
        if not isinstance(value, str) or not value:
            raise InputError(f"{name} is a text, not {value!r}")
        return expected(value)
    if expected is list:
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise InputError(f"{name} are written as [[{name.rpartition(' ')[2]}]] tables")
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is a table, not {value!r}")
    return value
