"""From a network's outputs to the classes of an ensemble: which output stands for which class (torch-free)."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval import files
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.members.devkit_classes import MAX_META_BYTES, wnids_by_ilsvrc_id
from ensemble_eval.members.ensemble import BACKGROUND_FIRST, ClassList, Member

NO_CLASS = "-"
_MAX_TABLE_BYTES = 1 << 26
_MATLAB = b"MATLAB 5.0 MAT-file"
_WNID = re.compile(r"n\d{8}")
# Of the 1,000 WNIDs of imagenet-1k, sorted, one a line: a table of other synsets would shift all classes silently.
_IMAGENET_1K_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


@dataclass(frozen=True)
class OutputSelection:
    """The outputs of a network that stand for an ensemble's classes.

    Attributes:
        num_outputs: of the network.
        indices: of the output of each class, in the ensemble's order.
        renormalised: whether the probabilities of these outputs are divided by their sum; otherwise what the
            network gives to other outputs is left out and the rest stays as it is.
    """

    num_outputs: int
    indices: tuple[int, ...]
    renormalised: bool


def output_selection(member: Member, classes: ClassList) -> OutputSelection | None:
    """Which outputs of a member stand for the classes; None where they are the classes in their order.

    Raises:
        InputError: the table is missing or damaged, or a class has no output or two.
    """
    if member.outputs is None:
        if member.renormalise:
            raise InputError(f"member {member.name}: `renormalise` goes with `outputs`; leave it out")
        return None
    if member.outputs == BACKGROUND_FIRST:
        return OutputSelection(classes.count + 1, tuple(range(1, classes.count + 1)), member.renormalise)
    table = Path(member.outputs)
    place = f"member {member.name}: the table {table}"
    lines = _lines(table)
    if not lines or not all(lines):
        raise InputError(
            f"{place} has one output a line and no empty line; write {NO_CLASS} where there is no class"
        )
    return OutputSelection(len(lines), _indices(lines, classes, place), member.renormalise)


def _lines(table: Path) -> list[str]:
    """What each output stands for; of the development kit's own table, its order."""
    if not _is_matlab(table):
        return [line.strip() for line in files.read_text(table, _MAX_TABLE_BYTES).splitlines()]
    with files.open_regular(table) as file:
        wnids = wnids_by_ilsvrc_id(table, file.read(MAX_META_BYTES + 1))
    return [wnids[ilsvrc_id] for ilsvrc_id in sorted(wnids)]


def _is_matlab(path: Path) -> bool:
    try:
        with files.open_regular(path) as file:
            return file.read(len(_MATLAB)) == _MATLAB
    except OSError:
        # Whoever reads it as a text says so.
        return False


def _indices(lines: list[str], classes: ClassList, place: str) -> tuple[int, ...]:
    names = classes.names
    if names is None:
        lines = [line.split()[0] for line in lines]
        names = _imagenet_1k(lines, place)
    positions: dict[str, int] = {}
    for index, name in enumerate(lines):
        if name != NO_CLASS and name in positions:
            raise InputError(f"{place} names {name!r} twice; each class has one output")
        positions[name] = index
    if lacking := [name for name in names if name not in positions]:
        raise InputError(f"{place} has no output for {len(lacking)} of the classes: {first_names(lacking)}")
    return tuple(positions[name] for name in names)


def _imagenet_1k(lines: list[str], place: str) -> tuple[str, ...]:
    """The classes of imagenet-1k in their order, which is that of their WNIDs, if a table has them all."""
    wnids = sorted({line for line in lines if _WNID.fullmatch(line)})
    if hashlib.sha256("\n".join(wnids).encode()).hexdigest() != _IMAGENET_1K_SHA256:
        raise InputError(
            f"{place} must begin each line with one of the 1000 WNIDs of imagenet-1k, all of them, "
            f"or with {NO_CLASS}; it has {len(wnids)} WNIDs"
        )
    return tuple(wnids)
