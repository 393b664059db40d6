"""Ensembles on disk: TOML manifests, and folders of checkpoints that describe themselves.

A manifest states what a file of weights does not say about its member: architecture, options, how pixels become
its input, and what its outputs stand for. Nothing of this is ever guessed from the values of the weights.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from ensemble_eval import toml_tables
from ensemble_eval.errors import InputError, located
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.files import write_atomically
from ensemble_eval.members.classes import IMAGENET_1K, ClassList, class_list
from ensemble_eval.members.described import (
    MemberTable,
    describe,
    is_described,
    member_description,
    save_described,
)
from ensemble_eval.members.ensemble import Ensemble, Interpolation, Member, weights_of
from ensemble_eval.members.imported import GRAPH
from ensemble_eval.members.importers.published import published

if TYPE_CHECKING:
    from torch import Tensor

# In the order in which they are written.
_WRITTEN = ("name", "arch", "weights", "sha256", "outputs", "renormalise", "averaged", "options", "input")


@dataclass(frozen=True)
class _Document:
    name: str
    classes: str
    members: list[Mapping[str, Any]]
    interpolation: Interpolation = "bilinear"


def open_ensemble(path: str | Path, models: int | None = None) -> Ensemble:
    """Read an ensemble from a manifest or a folder of checkpoints; no weights are loaded yet.

    Args:
        path: a manifest, or a folder whose `*.safetensors` files, in sorted order, are the members.
        models: how many members to use, the first ones; None for all.

    Raises:
        InputError: nothing usable at `path`, or fewer members than asked for.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     members = [Member(name, weights=f"{folder}/{name}.pth", arch="googlenet") for name in "ab"]
        ...     write_manifest(Path(folder, "two.toml"), Ensemble(members, "imagenet-1k"))
        ...     [member.name for member in open_ensemble(f"{folder}/two.toml", models=1).members]
        ['a']
    """
    path = Path(checked_value(Path, "`path`", path, Rule(words="the path of a manifest or folder of checkpoints")))
    checked_value(int | None, "`models`", models)
    ensemble = _read_folder(path) if path.is_dir() else read_manifest(path)
    if models is None:
        return ensemble
    if not 1 <= models <= len(ensemble.members):
        raise InputError(
            f"{models} models were asked for and {path} has {len(ensemble.members)} members; "
            f"choose `models` from 1 to {len(ensemble.members)}"
        )
    return Ensemble(ensemble.members[:models], ensemble.classes, ensemble.name, ensemble.interpolation)


def read_manifest(path: Path) -> Ensemble:
    """Read an ensemble manifest; relative paths in it start at its own folder.

    Raises:
        InputError: the file is missing or not TOML, or has an unknown, missing or impossible field.
    """
    document = toml_tables.fill(_Document, toml_tables.read(path), str(path))
    members = [
        _member_from_table(table, path.parent, f"{path}: member {number}")
        for number, table in enumerate(document.members, start=1)
    ]
    classes = class_list(document.classes, path.parent)
    _refuse_other_classes(document, members, classes, str(path))
    with located(str(path)):
        return Ensemble(members, classes, document.name, document.interpolation)


def write_manifest(path: Path, ensemble: Ensemble) -> None:
    """Write `ensemble` to `path` so that `read_manifest` gives it back; paths become relative to the file.

    Raises:
        InputError: a member or the list of classes is not in a file, or the manifest cannot be written.
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


def save_weights(path: Path, state_dict: "Mapping[str, Tensor]", member: Member, classes: ClassList) -> str:
    """Write a state dict with its member's description to `path` as a whole or not at all.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        InputError: the folder or disk does not take the file.
    """
    names = IMAGENET_1K if classes.names is None else list(classes.names)
    return save_described(path, state_dict, {"member": member_table(member, path.name), "classes": names})


def read_member(path: Path) -> tuple[Member, ClassList]:
    """The member and classes that `save_weights` described in a safetensors file.

    Raises:
        InputError: the file is no safetensors or carries no description.
    """
    table, classes = member_description(path)
    return _member_from_table(table, path.absolute().parent, str(path)), classes


def member_table(member: Member, weights: str) -> dict[str, Any]:
    """The manifest's table of one member, with `weights` as the path to write."""
    table = {name: getattr(member, name) for name in _WRITTEN} | {
        "weights": weights,
        "outputs": None if member.outputs is None else str(member.outputs),
        "renormalise": member.renormalise or None,
        "options": dict(member.options),
        "input": asdict(member.input),
    }
    return {name: value for name, value in table.items() if value is not None}


def _member_from_table(table: Mapping[str, Any], folder: Path, place: str) -> Member:
    """The member that a table states; relative paths in it start at `folder`."""
    stated = toml_tables.fill(MemberTable, table, place)
    input_format = stated.input_format(place)
    with located(place):
        weights, published_arch, published_input = published(stated.weights, folder)
        arch, input_format = stated.arch or published_arch, input_format or published_input
        if arch is not None and input_format is None:
            found = describe(weights, averaged=stated.averaged)
            if found.input is None and found.arch in (None, GRAPH):
                raise InputError(
                    f"the weights {weights} do not say how their network wants its pixels; state `input`"
                )
            input_format = found.input
        derived = {"weights": weights, "arch": arch, "input": input_format, "outputs": stated.outputs_in(folder)}
        return Member(**vars(stated) | derived)


def _refuse_other_classes(document: _Document, members: Sequence[Member], classes: ClassList, place: str) -> None:
    """Require the ensemble's classes of every file that describes its member in the manifest's place."""
    for table, member in zip(document.members, members, strict=True):
        path = weights_of(member)
        if "arch" in table or member.outputs is not None or not is_described(path):
            continue
        _, own = member_description(path)
        if (own.count, own.names) != (classes.count, classes.names):
            raise InputError(
                f"{place}: member {member.name}: the weights {path} are of other classes than {classes.source}, "
                "or of them in another order; state `arch` and `input` beside them if you know better"
            )


def _read_folder(folder: Path) -> Ensemble:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no .safetensors files; give a manifest or a folder of checkpoints")
    described = [read_member(path) for path in paths]
    classes = described[0][1]
    for path, (_, other) in zip(paths, described, strict=True):
        if (other.count, other.names) != (classes.count, classes.names):
            raise InputError(f"{path} and {paths[0]} have different classes and are not one ensemble")
    with located(str(folder)):
        return Ensemble([member for member, _ in described], classes, folder.name)


def _class_file(classes: ClassList) -> Path:
    path = Path(classes.source)
    with contextlib.suppress(InputError):
        if class_list(path).names == classes.names:
            return path
    raise InputError(
        "the ensemble's classes are in no text file; write them to one, a class per line, and give it as `classes`"
    )
