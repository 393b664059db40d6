"""TOML tables into frozen dataclasses: every field known, present, of its type and within its bounds."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ensemble_eval.errors import InputError
from ensemble_eval.files import read_regular

Row = TypeVar("Row")
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
        return f"{low} and {'below' if self.below_high else 'at most'} {self.high}"


def bounds(low: float, high: float, *, above_low: bool = False, below_high: bool = False) -> Mapping[str, _Bounds]:
    """A dataclass field's metadata: the numbers it may hold, the ends included unless said otherwise."""
    return {_BOUNDS: _Bounds(low, high, above_low, below_high)}


def read(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; is it the right file?") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error


def fill(row_class: type[Row], table: Mapping[str, Any], place: str) -> Row:
    """An instance of the dataclass `row_class` from a table; `place` says where for the messages.

    Raises:
        InputError: an unknown, missing or impossible field.
    """
    known = {field.name: field for field in fields(row_class)}  # type: ignore[arg-type]  # rows are dataclasses
    if unknown := sorted(set(table) - set(known)):
        raise InputError(
            f"{place}: unknown field {unknown[0]!r}; remove it or mend its name (known are {', '.join(known)})"
        )
    for name, field in known.items():
        if name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{place}: the field {name!r} is missing; add it")
    types = get_type_hints(row_class)
    values = {name: _value(types[name], known[name], value, place) for name, value in table.items()}
    return row_class(**values)


def _value(expected: Any, field: "Field[Any]", value: Any, place: str) -> Any:
    """`value` as the field's type, checked against its bounds."""
    name = f"{place}: {field.name}"
    limits: _Bounds | None = field.metadata.get(_BOUNDS)
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
    accepted = int if expected is int else (int, float)
    kind = "a whole number" if expected is int else "a number"
    if isinstance(value, bool) or not isinstance(value, accepted) or not math.isfinite(value):
        raise InputError(f"{name} is {kind}, not {value!r}")
    if limits is not None and not limits.hold(value):
        raise InputError(f"{name} is {kind} {limits}, not {value!r}")
    number: float = expected(value)
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
        if not isinstance(value, list):
            raise InputError(f"{name} are written as [[{name.rpartition(' ')[2]}]] tables")
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is a table, not {value!r}")
    return value
