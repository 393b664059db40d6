"""Ensembles on disk: TOML manifests, and folders of self-describing checkpoints.

A self-describing checkpoint is a safetensors file whose metadata holds the table of its member. A manifest states
what other weights files do not: the member's architecture and options, its preprocessing, and the meaning of its
outputs. None of this is ever guessed from the values of the weights.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from ensemble_eval import toml_tables
from ensemble_eval.crops.protocols import PROTOCOLS
from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.files import write_atomically
from ensemble_eval.locations import local_copy, location
from ensemble_eval.members.classes import IMAGENET_1K, ClassList, class_list
from ensemble_eval.members.described import (
    MemberTable,
    describe,
    is_described,
    member_description,
    save_described,
)
from ensemble_eval.members.ensemble import Ensemble, Interpolation, Member, protocol_named
from ensemble_eval.members.imported import GRAPH
from ensemble_eval.members.importers.published import published

if TYPE_CHECKING:
    from torch import Tensor

# The fields of a member's table, in the order in which they are written.
_MEMBER_FIELDS = (
    "name",
    "arch",
    "weights",
    "sha256",
    "outputs",
    "renormalise",
    "averaged",
    "options",
    "input",
    "protocol",
)


@dataclass(frozen=True)
class _Manifest:
    """The top level of a manifest."""

    name: str
    classes: str
    members: list[Mapping[str, Any]]
    interpolation: Interpolation = "bilinear"


class _Parts(NamedTuple):
    """The arguments of `Ensemble`."""

    members: list[Member]
    classes: ClassList
    name: str
    interpolation: Interpolation = "bilinear"


def open_ensemble(path: str | Path, models: int | None = None) -> Ensemble:
    """Read an ensemble from a manifest or a folder of checkpoints; no weights are loaded yet.

    Args:
        path: The path of a manifest, or of a folder whose `*.safetensors` files, in sorted order, are the
            members.
        models: Use only the first `models` members; None for all.

    Raises:
        InputError: There is no usable ensemble at `path`, or it has fewer members than `models`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     members = [Member(name, weights=f"{folder}/{name}.pth", arch="googlenet") for name in "ab"]
        ...     write_manifest(Path(folder, "two.toml"), Ensemble(members, "imagenet-1k"))
        ...     [member.name for member in open_ensemble(f"{folder}/two.toml", models=1).members]
        ['a']
    """
    rule = Rule(words="the path of a manifest or folder of checkpoints")
    place: Path = checked_value(Path, "`path`", path, rule)
    checked_value(int | None, "`models`", models)
    parts = _read_folder(place) if place.is_dir() else _read_manifest(place)
    if models is not None and not 1 <= models <= len(parts.members):
        raise InputError(
            f"{models} models were asked for and {place} has {len(parts.members)} members; "
            f"choose `models` from 1 to {len(parts.members)}"
        )
    with located(str(place)):
        return Ensemble(parts.members[:models], *parts[1:])


def _read_manifest(path: Path) -> _Parts:
    """Read a manifest; relative paths in it are relative to its folder."""
    manifest = toml_tables.fill(_Manifest, toml_tables.read(path), str(path))
    members = [
        _member_from_table(table, path.parent, f"{path}: member {number}")
        for number, table in enumerate(manifest.members, start=1)
    ]
    classes = class_list(manifest.classes, path.parent)
    _refuse_other_classes(manifest, members, classes, str(path))
    return _Parts(members, classes, manifest.name, manifest.interpolation)


def write_manifest(path: Path, ensemble: Ensemble) -> None:
    """Write a manifest from which `open_ensemble` reads the same ensemble; its paths are relative to its folder.

    Raises:
        InputError: A member's weights or the class list are not stored in a file, or the manifest cannot be
            written.
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
            member_table(member, relative(member.weights_file))
            | ({"outputs": relative(member.outputs)} if isinstance(member.outputs, Path) else {})
            for member in ensemble.members
        ],
    }
    write_atomically(path, tomli_w.dumps(document).encode())


def save_weights(path: Path, state_dict: "Mapping[str, Tensor]", member: Member, classes: ClassList) -> str:
    """Write a state dict and the description of its member to `path`, atomically.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        InputError: The file cannot be written.
    """
    names = IMAGENET_1K if classes.names is None else list(classes.names)
    return save_described(path, state_dict, {"member": member_table(member, path.name), "classes": names})


def read_member(path: Path) -> tuple[Member, ClassList]:
    """Read the member and the classes that `save_weights` wrote into the metadata of a safetensors file.

    Raises:
        InputError: The file is not a safetensors file, or has no description of a member.
    """
    path = local_copy(path)
    table, classes = member_description(path)
    return _member_from_table(table, path.absolute().parent, str(path)), classes


def member_table(member: Member, weights: str) -> dict[str, Any]:
    """Return the table of a member as a manifest has it, with `weights` as the path of its weights."""
    table = {name: getattr(member, name) for name in _MEMBER_FIELDS} | {
        "weights": weights,
        "outputs": None if member.outputs is None else str(member.outputs),
        "renormalise": member.renormalise or None,
        "options": dict(member.options),
        "input": member.input.stated(),
        "protocol": None if member.protocol is None else _shipped_name(member),
    }
    return {name: value for name, value in table.items() if value is not None}


def _member_from_table(table: Mapping[str, Any], folder: Path, place: str) -> Member:
    """Create the member that a table describes; relative paths in it are relative to `folder`."""
    parsed = toml_tables.fill(MemberTable, table, place)
    input_format = parsed.input_format(place)
    with located(place):
        source = published(parsed.weights, folder)
        weights, arch = source.weights, parsed.arch or source.arch
        input_format = input_format or source.input
        if arch is not None and input_format is None:
            description = describe(weights, averaged=parsed.averaged)
            if description.input is None and description.arch in (None, GRAPH):
                raise InputError(
                    f"the weights {weights} do not say how their network wants its pixels; state `input`"
                )
            input_format = description.input
        own = source.protocol
        resolved = {
            "weights": weights,
            "arch": arch,
            "input": input_format,
            "outputs": parsed.outputs_in(folder),
            "own_protocol": own,
            "protocol": None if parsed.protocol is None else protocol_named(parsed.protocol, own, folder),
        }
        return Member(**vars(parsed) | resolved)


def _shipped_name(member: Member) -> str:
    protocol = member.protocol
    if protocol is None or PROTOCOLS.get(protocol.name) != protocol:
        raise InputError(
            f"member {member.name}: its protocol is in no file that a manifest could name; write it to a .toml "
            "file, and give its path as `protocol`"
        )
    return protocol.name


def _refuse_other_classes(manifest: _Manifest, members: Sequence[Member], classes: ClassList, place: str) -> None:
    """Refuse self-describing checkpoints with classes other than the ensemble's.

    Members that the manifest describes with `arch` or `outputs` are not checked.
    """
    for table, member in zip(manifest.members, members, strict=True):
        path = member.weights_file
        if "arch" in table or member.outputs is not None or not is_described(path):
            continue
        _, own = member_description(path)
        if (own.count, own.names) != (classes.count, classes.names):
            raise InputError(
                f"{place}: member {member.name}: the weights {path} are of other classes than {classes.source}, "
                "or of them in another order; state `arch` and `input` beside them if you know better"
            )


def _read_folder(folder: Path) -> _Parts:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no .safetensors files; give a manifest or a folder of checkpoints")
    members_and_classes = [read_member(path) for path in paths]
    classes = members_and_classes[0][1]
    for path, (_, other) in zip(paths, members_and_classes, strict=True):
        if (other.count, other.names) != (classes.count, classes.names):
            raise InputError(f"{path} and {paths[0]} have different classes and are not one ensemble")
    return _Parts([member for member, _ in members_and_classes], classes, folder.name)


def _class_file(classes: ClassList) -> Path:
    path = location(classes.source)
    with contextlib.suppress(InputError):
        if class_list(path).names == classes.names:
            return path
    raise InputError(
        "the ensemble's classes are in no text file; write them to one, a class per line, and give it as `classes`"
    )
