"""Declares dataclass fields with type, limits and help, and checks values against them."""

import dataclasses
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ensemble_eval.errors import InputError

Value = TypeVar("Value")
_RULE = "rule"
# Longer values, such as the bytes of an image, are cut in messages.
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The limits of a field's values beyond its type, and its presentation on the command line.

    Attributes:
        low: The least number.
        high: The greatest number.
        above_low: Whether `low` itself is excluded.
        below_high: Whether `high` itself is excluded.
        pattern: A regular expression that a text must match as a whole.
        words: A phrase for messages that says what the field is; None for a phrase for its type.
        help: The help text of the option, with other fields of the same class in backticks.
        group: The section of the help; empty for the first.
        in_environment: Whether an environment variable may set the option.
        spelling: The name of the option, if it is not that of the field.
        metavar: The name of the option's value in the help, if it is not that of its type.
    """

    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    below_high: bool = False
    pattern: str | None = None
    words: str | None = None
    help: str = ""
    group: str = ""
    in_environment: bool = True
    spelling: str = ""
    metavar: str | None = None

    def holds(self, number: float) -> bool:
        """Return whether a number is within the limits."""
        low_holds = number > self.low if self.above_low else number >= self.low
        return low_holds and (number < self.high if self.below_high else number <= self.high)

    def limits(self) -> str:
        """Return the limits as text, to follow the phrase for the number."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return ""
        low = f" above {self.low}" if self.above_low else f" of at least {self.low}"
        high = f" and {'below' if self.below_high else 'at most'} {self.high}" if self.high < math.inf else ""
        return low + high


def bounds(low: float = -math.inf, high: float = math.inf, **rule: Any) -> Mapping[str, Rule]:
    """Return the metadata of a dataclass field with limits and further attributes of `Rule`."""
    return {_RULE: Rule(low=low, high=high, **rule)}


def option(default: Value, help: str = "", group: str = "", **rule: Any) -> Value:  # noqa: A002 (as in click)
    """Declare a dataclass field that is also an option of the command line if it has a help text.

    Args:
        default: The default of the field and the option.
        help: The help text, which explains a default of None.
        group: The section of the help.
        rule: Further attributes of `Rule`.
    """
    metadata = {_RULE: Rule(help=help, group=group, **rule)}
    # The return type is that of the default, as for `dataclasses.field`.
    return dataclasses.field(default=default, metadata=metadata)


def required_option(help: str) -> Any:  # noqa: A002 (as in click)
    """Declare an option without a default."""
    return dataclasses.field(metadata={_RULE: Rule(help=help)})


@functools.cache
def rules_of(row_class: Any) -> Mapping[str, Rule]:
    """Return the rules of the fields of a dataclass by name, in their order."""
    return {field.name: field.metadata.get(_RULE, Rule()) for field in dataclasses.fields(row_class)}


@functools.cache
def types_of(row_class: type) -> Mapping[str, Any]:
    """Return the types of the fields of a dataclass by name."""
    return get_type_hints(row_class)


class CheckedFields:
    """A base class of frozen dataclasses that checks all fields when an instance is made.

    Raises:
        InputError: A value is invalid; the message names the field as an argument, and says what it takes.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = checked_field(type(self), field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)


def checked_field(row_class: type, name: str, value: Any) -> Any:
    """Check a value for a field of a dataclass, and return it with the field's type.

    Raises:
        InputError: It is invalid.
    """
    return checked_value(types_of(row_class)[name], f"`{name}`", value, rules_of(row_class)[name])


def checked_value(expected: Any, name: str, value: Any, rule: Rule = Rule()) -> Any:
    """Check a value, and return it with the expected type.

    Args:
        expected: `bool`, `int`, `float`, `str`, `bytes`, `Path`, `Callable`, a `Literal`, a tuple or list of
            these, a mapping or another class; or one of them or None.
        name: The start of the message.
        value: The value.
        rule: The limits of the value.

    Raises:
        InputError: The value is invalid; the message says what is valid.

    Example:
        >>> checked_value(int | None, "`workers`", 0, Rule(low=1))
        Traceback (most recent call last):
        ensemble_eval.errors.InputError: `workers` is a whole number of at least 1, not 0
    """
    if get_origin(expected) in (Union, UnionType):  # with None, which TOML cannot write
        if value is None:
            return None
        [expected] = set(get_args(expected)) - {NoneType}
    kind = get_origin(expected) or expected
    if kind is Literal:
        return _choice(name, get_args(expected), _plain(value))
    if kind is tuple:
        return _tuple(name, get_args(expected), value, rule)
    if kind in (int, float):
        return _number(name, kind, value, rule)
    if kind is str:
        return _text(name, _plain(value), rule)
    return _other(name, kind, value, rule)


def shown(value: Any) -> str:
    """Format a value for a message, in one line of limited length."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"


def _plain(value: Any) -> Any:
    """Convert a device, a precision or an integer of torch or NumPy to the type that Python and TOML use."""
    if type(value).__module__ == "torch" and type(value).__name__ in ("device", "dtype"):
        return str(value).removeprefix("torch.")
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _choice(name: str, choices: tuple[Any, ...], value: Any) -> Any:
    # In Python True and 1.0 are equal to 1.
    if not any(type(each) is type(value) and each == value for each in choices):
        raise InputError(f"{name} is one of {', '.join(map(repr, choices))}, not {shown(value)}")
    return value


def _tuple(name: str, items: tuple[Any, ...], value: Any, rule: Rule) -> tuple[Any, ...]:
    any_number = items[-1] is Ellipsis
    if not isinstance(value, list | tuple) or (not any_number and len(value) != len(items)):
        words = rule.words or ("a list" if any_number else f"a list of {len(items)} numbers")
        raise InputError(f"{name} is {words}, not {shown(value)}")
    names = [name if any_number else f"{name}[{i}]" for i in range(len(value))]
    return tuple(checked_value(items[0], each, item, rule) for each, item in zip(names, value, strict=True))


def _number(name: str, expected: type, value: Any, rule: Rule) -> float:
    # In Python a boolean is an int. An int is valid where a float is expected.
    accepted = Integral if expected is int else Real
    kind = rule.words or ("a whole number" if expected is int else "a number")
    try:
        number: float = (
            expected(value) if isinstance(value, accepted) and not isinstance(value, bool) else math.nan
        )
    except OverflowError:
        number = math.nan
    if not -math.inf < number < math.inf:
        raise InputError(f"{name} is {kind}, not {shown(value)}")
    if not rule.holds(number):
        raise InputError(f"{name} is {kind}{rule.limits()}, not {shown(value)}")
    return number


def _text(name: str, value: Any, rule: Rule) -> str:
    words = rule.words or "a text"
    if not isinstance(value, str) or not value or (rule.pattern and not re.fullmatch(rule.pattern, value)):
        raise InputError(f"{name} is {words}, not {shown(value)}")
    return _in_utf8(name, value)


def _in_utf8(name: str, text: str, encode: Callable[[str], bytes] = str.encode) -> str:
    try:
        encode(text)
    except UnicodeEncodeError as error:
        raise InputError(f"{name} is {shown(text)}, which {not_utf8()}") from error
    return text


def not_utf8() -> str:
    """Return a phrase, to follow a name, that says why Python cannot write it and what to do."""
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return "is not UTF-8; give it another name"
    return f"cannot be written in this locale ({encoding}); set PYTHONUTF8=1"


def _other(name: str, kind: Any, value: Any, rule: Rule) -> Any:
    if kind is Path:
        # Imported here, because `--help` checks no path.
        from ensemble_eval.locations import ObjectPath, location

        if isinstance(value, ObjectPath):
            return value
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if not isinstance(text, str) or not text:
            raise InputError(f"{name} is {rule.words or 'a path'}, not {shown(value)}")
        # The encoding of the file system may lack characters of a manifest.
        return location(_in_utf8(name, _in_utf8(name, text), os.fsencode))
    if kind is list:
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise InputError(f"{name} are written as [[{name.rpartition(' ')[2]}]] tables")
        return value
    if kind is bytes and isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not (callable(value) if kind is Callable else isinstance(value, kind)):
        words = rule.words or _KINDS.get(kind) or f"of the type {kind.__name__}"
        raise InputError(f"{name} is {words}, not {shown(value)}")
    return value


_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    bytes: "bytes",
    Callable: "a function",
    Mapping: "a table",
}
