"""Fields that are declared once, with their type, limits and help, and values checked against them."""

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
# Longer values are cut in messages; the bytes of an image are none to print.
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a field takes beside what its type says, and how the command line presents it.

    Attributes:
        low: the least number.
        high: the greatest number.
        above_low: whether `low` itself is excluded.
        below_high: whether `high` itself is excluded.
        choices: the known values, where the type does not list them.
        pattern: a regular expression that a text matches as a whole.
        words: what the field is, as a phrase for messages; None for what its type is called.
        help: of the option; other fields of the same class are in backticks.
        group: the section of a command's help that the option stands in; empty for the first.
        in_environment: whether a variable of the environment may set the option.
        spelling: of the option, where it is not named as the field.
        metavar: what the option's value is called in `--help`, where that is not its type.
    """

    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    below_high: bool = False
    choices: tuple[Any, ...] = ()
    pattern: str | None = None
    words: str | None = None
    help: str = ""
    group: str = ""
    in_environment: bool = True
    spelling: str = ""
    metavar: str | None = None

    def holds(self, number: float) -> bool:
        """Whether a number is within the limits."""
        low_holds = number > self.low if self.above_low else number >= self.low
        return low_holds and (number < self.high if self.below_high else number <= self.high)

    def limits(self) -> str:
        """The limits, to follow the words for a number."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return ""
        low = f" above {self.low}" if self.above_low else f" of at least {self.low}"
        high = f" and {'below' if self.below_high else 'at most'} {self.high}" if self.high < math.inf else ""
        return low + high


def bounds(low: float, high: float = math.inf, **rule: Any) -> Mapping[str, Rule]:
    """A dataclass field's metadata: the numbers it may hold, and further attributes of `Rule`."""
    return {_RULE: Rule(low=low, high=high, **rule)}


def described(words: str, **rule: Any) -> Mapping[str, Rule]:
    """A dataclass field's metadata: what it is, as a phrase for messages, and further attributes of `Rule`."""
    return {_RULE: Rule(words=words, **rule)}


def option(default: Value, help: str = "", group: str = "", **rule: Any) -> Value:  # noqa: A002 (as in click)
    """A dataclass field that is an option of the command line too, if it has a help text.

    Args:
        default: of the field and of the option.
        help: what `--help` says; the default that is None stands in it.
        group: the section of `--help`.
        rule: further attributes of `Rule`.
    """
    metadata = {_RULE: Rule(help=help, group=group, **rule)}
    # As `dataclasses.field`, which says too that it returns the default.
    return dataclasses.field(default=default, metadata=metadata)


def required_option(help: str) -> Any:  # noqa: A002 (as in click)
    """As `option`, for a field without a default."""
    return dataclasses.field(metadata={_RULE: Rule(help=help)})


@functools.cache
def rules_of(row_class: Any) -> Mapping[str, Rule]:
    """The rules of a dataclass's fields by name, in their order."""
    return {field.name: field.metadata.get(_RULE, Rule()) for field in dataclasses.fields(row_class)}


@functools.cache
def types_of(row_class: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields by name."""
    return get_type_hints(row_class)


class CheckedFields:
    """A frozen dataclass whose fields are of their types and within their rules, from wherever they come.

    Raises:
        InputError: one is not; the sentence names it as an argument, and says what it takes.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = checked_field(type(self), field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)


def checked_field(row_class: type, name: str, value: Any) -> Any:
    """A value for a dataclass's field, as the field's type.

    Raises:
        InputError: it is none.
    """
    return checked_value(types_of(row_class)[name], f"`{name}`", value, rules_of(row_class)[name])


def checked_value(expected: Any, name: str, value: Any, rule: Rule = Rule()) -> Any:
    """A value as the type that it is declared to be.

    Args:
        expected: `bool`, `int`, `float`, `str`, `bytes`, `Path`, `Callable`, a `Literal`, a tuple or list of
            these, a mapping or another class; or one of them or None.
        name: what the message begins with.
        value: to check.
        rule: what it must meet beside its type.

    Raises:
        InputError: it is no such value; the sentence says what is.

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
    if rule.choices or kind is Literal:
        return _choice(name, rule.choices or get_args(expected), _plain(value))
    if kind is tuple:
        return _tuple(name, get_args(expected), value, rule)
    if kind in (int, float):
        return _number(name, kind, value, rule)
    if kind is str:
        return _text(name, _plain(value), rule)
    return _other(name, kind, value, rule)


def shown(value: Any) -> str:
    """A value as a message names it: in one line, and not at length."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"


def _plain(value: Any) -> Any:
    """A device, a precision or a whole number of torch or NumPy as Python and TOML write it."""
    if type(value).__module__ == "torch" and type(value).__name__ in ("device", "dtype"):
        return str(value).removeprefix("torch.")
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _choice(name: str, choices: tuple[Any, ...], value: Any) -> Any:
    # To Python True is 1, and so is 1.0.
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
    # A TOML boolean is an int to Python, and a whole number serves where a fraction may stand.
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
    """What is wrong with a name that Python cannot write, and what to do, to follow the name."""
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return "is not UTF-8; give it another name"
    return f"cannot be written in this locale ({encoding}); set PYTHONUTF8=1"


def _other(name: str, kind: Any, value: Any, rule: Rule) -> Any:
    if kind is Path:
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if not isinstance(text, str) or not text:
            raise InputError(f"{name} is {rule.words or 'a path'}, not {shown(value)}")
        # The system's encoding may lack what a manifest holds.
        return Path(_in_utf8(name, _in_utf8(name, text), os.fsencode))
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
