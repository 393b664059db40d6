"""Ensemble manifests: TOML to ensembles and back.

A manifest states what its weights do not say about a member: architecture, options, how pixels become its input,
what its outputs stand for. Nothing of this is ever guessed from the weights' values.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ensemble_eval import toml_tables
from ensemble_eval.errors import InputError, located
from ensemble_eval.files import write_atomically
from ensemble_eval.members.ensemble import (
    BACKGROUND_FIRST,
    GRAPH,
    IMAGENET_1K,
    ClassList,
    Ensemble,
    InputFormat,
    Interpolation,
    Member,
    class_list,
    weights_of,
)

if TYPE_CHECKING:
    from ensemble_eval.members.importers.published import Published

_DEFAULT = {"renormalise": False, "averaged": None}
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
    weights: str
    arch: str | None = None
    input: Mapping[str, Any] | None = None
    outputs: str | None = None
    renormalise: bool | None = None
    averaged: bool | None = None
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
    _refuse_other_classes(document, members, classes, str(path))
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
        "members": [
            member_table(member, relative(weights_of(member)))
            | ({"outputs": relative(member.outputs)} if isinstance(member.outputs, Path) else {})
            for member in ensemble.members
        ],
    }
    write_atomically(path, tomli_w.dumps(document).encode())


def member_table(member: Member, weights: str) -> dict[str, Any]:
    """The manifest's table of one member, with `weights` as the path to write."""
    row: dict[str, Any] = {"name": member.name, "arch": member.arch, "weights": weights}
    if member.sha256 is not None:
        row["sha256"] = member.sha256
    if member.outputs is not None:
        row["outputs"] = str(member.outputs)
    for name in ("renormalise", "averaged"):
        if (value := getattr(member, name)) not in (None, _DEFAULT[name]):
            row[name] = value
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
    input_format = None
    if row.input is not None:
        input_format = toml_tables.fill(InputFormat, row.input, f"{place}, input", required=_STATED)
    with located(place):
        named = _published(row.weights)
        weights = named.path if named else folder / row.weights
        arch = row.arch or (named.arch if named else None)
        input_format = input_format or (named.input if named else None)
        if arch is not None and input_format is None:
            input_format = _input_of(weights, row.averaged)
        return Member(
            row.name,
            weights=weights,
            arch=arch,
            options=row.options,
            sha256=row.sha256,
            input=input_format,
            outputs=None if row.outputs is None else _outputs(row.outputs, folder),
            renormalise=row.renormalise,
            averaged=row.averaged,
        )


def _refuse_other_classes(document: _Document, members: Sequence[Member], classes: ClassList, place: str) -> None:
    """Where a manifest leaves to the file what a member is, the file's own classes must be the ensemble's."""
    for row, member in zip(document.members, members, strict=True):
        if "arch" not in row and member.outputs is None:
            from ensemble_eval.members.describing import refuse_other_classes

            with located(f"{place}: member {member.name}"):
                refuse_other_classes(weights_of(member), classes)


def _published(weights: str) -> "Published | None":
    """What a manifest names as published; None where it names a file."""
    if ":" not in weights:
        return None
    # Only here: what is published is found by libraries that take long to import.
    from ensemble_eval.members.importers.published import published

    return published(weights)


def _outputs(outputs: str, folder: Path) -> str | Path:
    return outputs if outputs == BACKGROUND_FIRST else folder / outputs


def _input_of(weights: Path, averaged: bool | None) -> InputFormat:
    from ensemble_eval.members.describing import describe

    found = describe(weights, averaged=averaged)
    if found.input is None and found.arch in (None, GRAPH):
        raise InputError(f"the weights {weights} do not say how their network wants its pixels; state `input`")
    return found.input or InputFormat()


def _class_file(classes: ClassList) -> Path:
    path = Path(classes.source)
    with contextlib.suppress(InputError):
        if class_list(path).names == classes.names:
            return path
    raise InputError(
        "the ensemble's classes are in no text file; write them to one, a class per line, and give it as `classes`"
    )
