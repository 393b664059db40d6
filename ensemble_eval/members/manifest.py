"""Ensemble manifests: TOML to ensembles and back.

A manifest states everything about a member that its weights do not: architecture, options and how pixels
become its input. Nothing of this is ever guessed from the weights' values.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from ensemble_eval import toml_tables
from ensemble_eval.errors import InputError, located
from ensemble_eval.files import write_atomically
from ensemble_eval.members.ensemble import (
    IMAGENET_1K,
    ClassList,
    Ensemble,
    InputFormat,
    Interpolation,
    Member,
    class_list,
    weights_of,
)

# Fields of a member's input that a manifest must state, because nothing is guessed.
_STATED = ("channels", "scale", "mean", "std")


@dataclass(frozen=True)
class _Document:
    name: str
    classes: str
    members: list[Mapping[str, Any]]
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class _MemberRow:
    name: str
    arch: str
    weights: str
    input: Mapping[str, Any]
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read_manifest(path: Path) -> Ensemble:
    """Read an ensemble manifest; relative paths in it start at its own folder.

    Raises:
        InputError: the file is missing or not TOML, or has an unknown, missing or impossible field.
    """
    document = toml_tables.fill(_Document, toml_tables.read(path), str(path))
    members = [
        member_from_table(row, path.parent, f"{path}: member {number}")
        for number, row in enumerate(document.members, start=1)
    ]
    classes = class_list(document.classes, path.parent)
    with located(str(path)):
        return Ensemble(members, classes, document.name, document.interpolation)


def write_manifest(path: Path, ensemble: Ensemble) -> None:
    """Write `ensemble` to `path` so that `read_manifest` gives it back; paths become relative to the file.

    Raises:
        InputError: a member or the list of classes is no file, or the folder or disk does not take the manifest.
    """
    folder = path.parent.absolute()

    def relative(target: str | Path) -> str:
        return Path(os.path.relpath(Path(target).absolute(), folder)).as_posix()

    classes = ensemble.classes
    document = {
        "name": ensemble.name,
        "interpolation": ensemble.interpolation,
        "classes": IMAGENET_1K if classes.names is None else relative(_class_file(classes)),
        "members": [member_table(member, relative(weights_of(member))) for member in ensemble.members],
    }
    write_atomically(path, tomli_w.dumps(document).encode())


def member_table(member: Member, weights: str) -> dict[str, Any]:
    """The manifest's table of one member, with `weights` as the path to write."""
    row: dict[str, Any] = {"name": member.name, "arch": member.arch, "weights": weights}
    if member.sha256 is not None:
        row["sha256"] = member.sha256
    row["options"] = dict(member.options)
    row["input"] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(member.input).items()
    }
    return row


def member_from_table(table: Mapping[str, Any], folder: Path, place: str) -> Member:
    """The member that `member_table` wrote.

    Args:
        table: of the member.
        folder: where a relative path of weights starts.
        place: where the table stands, for the messages.

    Raises:
        InputError: an unknown, missing or impossible field.
    """
    row = toml_tables.fill(_MemberRow, table, place)
    input_format = toml_tables.fill(InputFormat, row.input, f"{place}, input", required=_STATED)
    with located(place):
        return Member(
            row.name,
            weights=folder / row.weights,
            arch=row.arch,
            options=row.options,
            sha256=row.sha256,
            input=input_format,
        )


def _class_file(classes: ClassList) -> Path:
    path = Path(classes.source)
    with contextlib.suppress(InputError):
        if class_list(path).names == classes.names:
            return path
    raise InputError(
        "the ensemble's classes are in no text file; write them to one, a class per line, and give it as `classes`"
    )
