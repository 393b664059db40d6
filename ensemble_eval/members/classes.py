"""The classes of an ensemble, and the mapping from a network's outputs to them (torch-free)."""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.errors import InputError, first_names, needing_extra, refusing
from ensemble_eval.fields import Rule, checked_value
from ensemble_eval.files import as_text, read_text, read_unpacked
from ensemble_eval.locations import location
from ensemble_eval.members.imported import BACKGROUND_FIRST

IMAGENET_1K = "imagenet-1k"
_CLASSES = '"imagenet-1k", a list of names, or the path of a file of names'
# The WordNet ids of the ILSVRC challenges since 2012. Sorted, as they are here, they have their indices.
WNIDS = tuple(Path(__file__).with_name("imagenet_wnids.txt").read_text("ascii").split())
# In a table of outputs, for an output without a class.
_NO_CLASS = "-"
_MAX_FILE_BYTES = 1 << 26
# The development kit's file of classes has 0.3 MB, and a compressed file may claim to hold any number of bytes.
META = "meta.mat"
MAX_META_BYTES = 1 << 26
_MATLAB_HEADER, _COMPRESSED = 128, 15
_MATLAB = b"MATLAB 5.0 MAT-file"
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ClassList:
    """The classes that an ensemble's outputs stand for, in the order of the outputs.

    Attributes:
        source: where the names are from: `imagenet-1k`, a file, or a phrase for messages.
        count: of the classes.
        names: of the classes; None for `imagenet-1k`, whose indices are the 1000 WNIDs in sorted order.
    """

    source: str
    count: int
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class OutputSelection:
    """The outputs of a network that stand for an ensemble's classes.

    Attributes:
        num_outputs: of the network.
        indices: of the output of each class, in the ensemble's order.
        renormalised: whether the probabilities of these outputs are divided by their sum; otherwise they stay as
            they are, and may sum to less than 1.
    """

    num_outputs: int
    indices: tuple[int, ...]
    renormalised: bool


def class_list(classes: str | Path | Sequence[str] | ClassList, folder: Path | None = None) -> ClassList:
    """The classes that an ensemble's outputs stand for, in the order of the outputs.

    Args:
        classes: `imagenet-1k`, the path of a text file with one class per line, or the names themselves.
        folder: where relative paths start; None for the working directory.

    Raises:
        InputError: the file is missing, too large or not UTF-8; there is no class, an empty name, or one twice.

    Example:
        >>> class_list("imagenet-1k").count
        1000
        >>> class_list(["ant", "bee"]).names
        ('ant', 'bee')
    """
    if isinstance(classes, ClassList):
        return classes
    if classes == IMAGENET_1K:
        return ClassList(IMAGENET_1K, len(WNIDS), None)
    if isinstance(classes, str | Path):
        path = (folder or Path()) / location(classes)
        return ClassList(str(path), *_counted(_stripped_lines(read_text(path, _MAX_FILE_BYTES)), str(path)))
    checked_value(Sequence, "`classes`", classes, Rule(words=_CLASSES))
    return ClassList("a list of names", *_counted(classes, "`classes`"))


def output_selection(
    outputs: str | Path | None, classes: ClassList, *, renormalise: bool, member: str
) -> OutputSelection | None:
    """Which outputs of a member stand for the classes; None where they are the classes in their order.

    Args:
        outputs: `background-first`, or a table with the class of each output; None for the classes in their order.
        classes: of the ensemble.
        renormalise: whether the probabilities of the selected outputs are divided by their sum.
        member: its name, for messages.

    Raises:
        InputError: the table is missing or damaged, or a class has no output or two.
    """
    if outputs is None:
        if renormalise:
            raise InputError(f"member {member}: `renormalise` goes with `outputs`; leave it out")
        return None
    if outputs == BACKGROUND_FIRST:
        return OutputSelection(classes.count + 1, tuple(range(1, classes.count + 1)), renormalise)
    place = f"member {member}: the table {outputs}"
    lines = _table(location(outputs))
    if not lines or not all(lines):
        raise InputError(
            f"{place} has one output a line and no empty line; write {_NO_CLASS} where there is no class"
        )
    return OutputSelection(len(lines), _indices(lines, classes, place), renormalise)


def wnids_by_ilsvrc_id(path: Path, meta: bytes) -> Mapping[int, str]:
    """The WNID of each ILSVRC2012_ID that is a class of the challenge, and no group of classes; from 1 on.

    Args:
        path: for messages.
        meta: the bytes of `meta.mat`.

    Raises:
        InputError: they are damaged or of another kit, or SciPy is not installed.
    """
    _bounded(path, meta)
    with needing_extra("devkit", f"the development kit's {META}"):
        from scipy.io import loadmat
    _refuse_bomb(path, meta)
    with refusing(f"{path}: {META} is damaged, or of another kit", "get it again"):
        # It reads from a file object too, though its stub does not say so.
        found: Any = loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=True, variable_names=["synsets"])  # type: ignore[arg-type]
        synsets = found["synsets"]
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        wnids = {int(ilsvrc_id): str(wnid) for ilsvrc_id, wnid, children in rows if int(children) == 0}
    if sorted(wnids) != list(range(1, len(wnids) + 1)) or len(set(wnids.values())) < len(wnids):
        raise InputError(f"{path}: the ids in {META} are not 1, 2, 3 and so on; is it the kit of 2012?")
    return wnids


def _refuse_bomb(path: Path, data: bytes) -> None:
    """Refuse a MATLAB file whose variables, packed with zlib, would fill memory; SciPy sets no limit."""
    position = _MATLAB_HEADER
    while position + 8 <= len(data):
        kind = int.from_bytes(data[position : position + 4], "little")
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == _COMPRESSED:
            packed = data[position + 8 : position + 8 + size]
            with refusing(f"{path}: {META} is damaged", "get it again", zlib.error):
                unpacked = zlib.decompressobj().decompress(packed, MAX_META_BYTES + 1)
            _bounded(path, unpacked)
        position += 8 + size


def _bounded(path: Path, data: bytes) -> None:
    if len(data) > MAX_META_BYTES:
        raise InputError(f"{path} has more than {MAX_META_BYTES} bytes; is it the right file?")


def _stripped_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def _counted(names: Sequence[str], place: str) -> tuple[int, tuple[str, ...]]:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{place}: a class list has one class per line and no empty line")
    if len(set(names)) < len(names):
        repeated = sorted(name for name in set(names) if names.count(name) > 1)
        raise InputError(f"{place}: classes appear twice: {', '.join(repeated[:3])}")
    return len(names), tuple(names)


def _table(path: Path) -> list[str]:
    """The lines of a table of outputs; of the development kit's own `meta.mat`, its WNIDs in order."""
    data = read_unpacked(path, MAX_META_BYTES + 1)
    _bounded(path, data)
    if not data.startswith(_MATLAB):
        return _stripped_lines(as_text(path, data))
    wnids = wnids_by_ilsvrc_id(path, data)
    return [wnids[ilsvrc_id] for ilsvrc_id in sorted(wnids)]


def _indices(lines: list[str], classes: ClassList, place: str) -> tuple[int, ...]:
    names = classes.names
    if names is None:
        lines, names = [line.split()[0] for line in lines], WNIDS
        # A table of other synsets would shift all classes silently.
        wnids = set(filter(_WNID.fullmatch, lines))
        if wnids != set(WNIDS):
            raise InputError(
                f"{place} must begin each line with one of the 1000 WNIDs of imagenet-1k, all of them, "
                f"or with {_NO_CLASS}; it has {len(wnids)} WNIDs"
            )
    positions: dict[str, int] = {}
    for index, name in enumerate(lines):
        if name != _NO_CLASS and name in positions:
            raise InputError(f"{place} names {name!r} twice; each class has one output")
        positions[name] = index
    if lacking := [name for name in names if name not in positions]:
        raise InputError(f"{place} has no output for {len(lacking)} of the classes: {first_names(lacking)}")
    return tuple(positions[name] for name in names)
