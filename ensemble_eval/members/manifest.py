"""Ensemble manifests: TOML to frozen dataclasses and back.

A manifest states everything about a member that its weights do not: architecture, options and how pixels
become its input. Nothing of this is ever guessed from the weights' values.
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from ensemble_eval.errors import InputError
from ensemble_eval.files import open_regular, write_atomically

IMAGENET_1K = "imagenet-1k"
IMAGENET_1K_CLASSES = 1000
# The name under which the ensemble's own rows stand beside its members' in the predictions.
ENSEMBLE_ROWS = "ensemble"
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_CLASS_FILE_BYTES = 1 << 26
Interpolation = Literal["bilinear", "bicubic"]
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class InputFormat:
    """How a member wants its pixels: x = (uint8 / scale - mean) / std, per channel, in `channels` order.

    `transform_input` marks weights ported from TensorFlow that torchvision feeds ImageNet-normalised input
    and re-maps to the range ±1 (pytorch/vision#4136); it is not part of a state dict.
    """

    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    transform_input: bool = False


@dataclass(frozen=True)
class Member:
    """One model of an ensemble: architecture, weights file and preprocessing."""

    name: str
    arch: str
    weights: Path
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input: InputFormat = InputFormat()


@dataclass(frozen=True)
class ClassList:
    """The classes that an ensemble's outputs stand for; line number = index.

    `names` is None for `imagenet-1k`, whose indices are the 1000 WNIDs in sorted order.
    """

    source: str
    count: int
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Ensemble:
    """Ordered members that share one list of classes and one way of resizing images."""

    name: str
    classes: ClassList
    members: tuple[Member, ...]
    interpolation: Interpolation = "bilinear"


def read_manifest(path: Path) -> Ensemble:
    """Read an ensemble manifest; relative paths in it start at its own folder.

    Raises:
        InputError: the file is missing or not TOML, or has an unknown, missing or impossible field.
    """
    table = _Table(_parse(path), str(path))
    name = table.text("name")
    classes = read_classes(table.text("classes"), path.parent)
    interpolation = table.text("interpolation", default="bilinear")
    if interpolation not in ("bilinear", "bicubic"):
        raise InputError(f'{path}: interpolation is "bilinear" or "bicubic", not {interpolation!r}')
    rows = table.tables("members")
    table.refuse_unknown()
    members = tuple(_member(row, path.parent, f"{path}: member {i + 1}") for i, row in enumerate(rows))
    check_names([member.name for member in members], path)
    return Ensemble(name, classes, members, "bicubic" if interpolation == "bicubic" else "bilinear")


def read_classes(source: str, folder: Path) -> ClassList:
    """The class list named by a manifest: `imagenet-1k`, or a text file with one class per line.

    Raises:
        InputError: the file is missing, empty, too large, not UTF-8, or names a class twice.
    """
    if source == IMAGENET_1K:
        return ClassList(source, IMAGENET_1K_CLASSES, None)
    path = folder / source
    names = tuple(line.strip() for line in _read_text(path, _MAX_CLASS_FILE_BYTES).splitlines())
    if not names or not all(names):
        raise InputError(f"{path}: a class list has one class per line and no empty line")
    if repeated := [name for name in set(names) if names.count(name) > 1][:3]:
        raise InputError(f"{path}: classes appear twice: {', '.join(sorted(repeated))}")
    return ClassList(str(path), len(names), names)


def member_table(member: Member, weights: str) -> dict[str, Any]:
    """The manifest's table of one member, with `weights` as the path to write."""
    row: dict[str, Any] = {"name": member.name, "arch": member.arch, "weights": weights}
    if member.sha256 is not None:
        row["sha256"] = member.sha256
    row["options"] = dict(member.options)
    row["input"] = {
        "channels": member.input.channels,
        "scale": member.input.scale,
        "mean": list(member.input.mean),
        "std": list(member.input.std),
        "transform_input": member.input.transform_input,
    }
    return row


def member_from_table(row: Mapping[str, Any], weights: Path, place: str) -> Member:
    """The member that `member_table` wrote, with its weights at `weights`; see `read_manifest` for errors."""
    return _member({**row, "weights": str(weights.absolute())}, weights.parent, place)


def write_manifest(path: Path, ensemble: Ensemble) -> None:
    """Write `ensemble` to `path` so that `read_manifest` gives it back; paths become relative to the file."""
    folder = path.parent.absolute()

    def relative(target: str | Path) -> str:
        return Path(os.path.relpath(Path(target).absolute(), folder)).as_posix()

    classes = ensemble.classes.source
    document = {
        "name": ensemble.name,
        "interpolation": ensemble.interpolation,
        "classes": classes if ensemble.classes.names is None else relative(classes),
        "members": [member_table(member, relative(member.weights)) for member in ensemble.members],
    }
    write_atomically(path, tomli_w.dumps(document).encode())


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse an ensemble without members, or whose members cannot be told apart."""
    if not names:
        raise InputError(f"{path}: the ensemble has no members; add at least one [[members]] table")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: two members are named {name!r}; give each its own name")
        if name == ENSEMBLE_ROWS:
            raise InputError(f"{path}: the name {name!r} is kept for the ensemble's own rows; choose another")


def _member(row: Mapping[str, Any], folder: Path, place: str) -> Member:
    table = _Table(row, place)
    member = Member(
        name=table.text("name"),
        arch=table.text("arch"),
        weights=folder / table.text("weights"),
        sha256=table.sha256(),
        options=table.table("options"),
        input=_input_format(table.table("input"), f"{place}, input"),
    )
    table.refuse_unknown()
    return member


def _input_format(row: Mapping[str, Any], place: str) -> InputFormat:
    table = _Table(row, place)
    channels = table.text("channels")
    if channels not in ("rgb", "bgr"):
        raise InputError(f'{place}: channels is "rgb" or "bgr", not {channels!r}')
    scale = table.number("scale")
    mean, std = table.triple("mean"), table.triple("std")
    transform_input = table.flag("transform_input", default=False)
    table.refuse_unknown()
    if scale <= 0 or min(std) <= 0:
        raise InputError(f"{place}: scale and std are above 0")
    return InputFormat("rgb" if channels == "rgb" else "bgr", scale, mean, std, transform_input)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path, _MAX_MANIFEST_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error


def _read_text(path: Path, max_bytes: int) -> str:
    try:
        with open_regular(path) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise InputError(f"{path} is larger than {max_bytes} bytes; is it the right file?")
        return data.decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; is it the right file?") from error


class _Table:
    """One TOML table whose fields are taken with their type checked; what is not taken is unknown."""

    def __init__(self, row: Mapping[str, Any], place: str) -> None:
        self._rest = dict(row)
        self._place = place

    def text(self, name: str, default: str | None = None) -> str:
        value = self._take(name) if default is None else self._rest.pop(name, default)
        if not isinstance(value, str) or not value:
            raise InputError(f"{self._place}: {name} is a text, not {value!r}")
        return value

    def number(self, name: str) -> float:
        return self._finite(name, self._take(name))

    def triple(self, name: str) -> tuple[float, float, float]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) != 3:
            raise InputError(f"{self._place}: {name} is a list of three numbers, not {value!r}")
        red, green, blue = (self._finite(name, number) for number in value)
        return red, green, blue

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._rest.pop(name, default)
        if not isinstance(value, bool):
            raise InputError(f"{self._place}: {name} is true or false, not {value!r}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """A table; `options` may be left out."""
        value = self._rest.pop(name, {}) if name == "options" else self._take(name)
        if not isinstance(value, dict):
            raise InputError(f"{self._place}: {name} is a table, not {value!r}")
        return value

    def tables(self, name: str) -> list[dict[str, Any]]:
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise InputError(f"{self._place}: {name} are written as [[{name}]] tables")
        return value

    def sha256(self) -> str | None:
        value = self._rest.pop("sha256", None)
        if value is not None and not (isinstance(value, str) and _SHA256.fullmatch(value)):
            raise InputError(f"{self._place}: sha256 is 64 lower-case hexadecimal digits, not {value!r}")
        return value

    def refuse_unknown(self) -> None:
        if self._rest:
            raise InputError(f"{self._place}: unknown field {sorted(self._rest)[0]!r}; remove it or mend its name")

    def _take(self, name: str) -> Any:
        if name not in self._rest:
            raise InputError(f"{self._place}: the field {name!r} is missing; add it")
        return self._rest.pop(name)

    def _finite(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{self._place}: {name} holds a finite number, not {value!r}")
        return float(value)
