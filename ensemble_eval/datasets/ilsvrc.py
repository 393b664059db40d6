"""ILSVRC-2012's validation images: the numbers in their names, by which its development kit speaks of them."""

import io
import posixpath
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.tar import checked_headers
from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.files import read_text, read_unpacked
from ensemble_eval.members.classes import MAX_META_BYTES, META, wnids_by_ilsvrc_id

VALIDATION_IMAGES = 50_000
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")
_MAX_TEXT_BYTES = 1 << 22
# The kit of 2012 has 2.5 MB; a compressed file may claim to hold any number of bytes.
_MAX_KIT_BYTES = 1 << 28
_TAR_AT, _TAR = 257, b"ustar"


def validation_number(image: str) -> str | None:
    """The number of a validation image, which is its place in the order of file names, from 1 on.

    Args:
        image: an id; the number is found in any layout that kept the file's name.

    Returns:
        Digits without leading zeros; None where the name is no validation image's.

    Example:
        >>> validation_number("n01440764/ILSVRC2012_val_00000293.JPEG")
        '293'
    """
    found = _NUMBERED.search(posixpath.basename(image))
    return str(int(found[1])) if found else None


def refuse_unnumbered(what: str, images: Sequence[str], remedy: str) -> None:
    """Refuse images whose names have no number, by which `what` goes."""
    if images:
        raise InputError(
            f"{what} goes by the numbers in names such as ILSVRC2012_val_00000001.JPEG, and {len(images)} images "
            f"have none ({first_names(images)}); {remedy}"
        )


def read_blacklist(path: Path) -> frozenset[str]:
    """The numbers of the images on a blacklist: a text file of places in the order of names, from 1 on.

    Raises:
        InputError: it cannot be read, is empty, or holds what is no such place, or one of them twice.
    """
    numbers = _integers(f"the blacklist {path}", path, read_text(path, _MAX_TEXT_BYTES))
    for number in numbers:
        if not 1 <= number <= VALIDATION_IMAGES:
            raise InputError(f"the blacklist {path} holds {number}; places run from 1 to {VALIDATION_IMAGES}")
    if len(set(numbers)) < len(numbers):
        raise InputError(f"the blacklist {path} holds a place twice; is it the right file?")
    return frozenset(map(str, numbers))


def ground_truth(path: Path, data: bytes, class_names: Sequence[str]) -> dict[str, int]:
    """The class index of each validation image by its number, as the development kit says.

    The kit's class ids are 1-based and in an order of their own.

    Args:
        path: the kit's folder, its archive, or the ground truth itself with `meta.mat` beside it.
        data: the bytes of the file, decompressed; empty for a folder.
        class_names: in index order; the kit knows WNIDs.

    Raises:
        InputError: a file is missing, damaged or of another kit, SciPy is not installed, or the classes are not
            named by WNIDs.
    """
    truth, meta = _of_archive(path, data) if is_archive(data) else _of_folder(path)
    wnid_by_id = wnids_by_ilsvrc_id(path, meta)
    index_by_wnid = {name: index for index, name in enumerate(class_names)}
    by_number = {}
    for number, ilsvrc_id in enumerate(truth, 1):
        if ilsvrc_id not in wnid_by_id:
            raise InputError(
                f"{path}: the ground truth of image {number} is {ilsvrc_id}, which is none of the "
                f"{len(wnid_by_id)} ids in {META}; is it the right kit?"
            )
        wnid = wnid_by_id[ilsvrc_id]
        if wnid not in index_by_wnid:
            raise InputError(
                f"{path} names classes by WNID, and {wnid} is not among the ensemble's "
                f"{len(class_names)} classes; use their own data set, or labels of the form file,label"
            )
        by_number[str(number)] = index_by_wnid[wnid]
    return by_number


def is_archive(data: bytes) -> bool:
    """Whether these are the bytes of a tar archive."""
    return data[_TAR_AT:].startswith(_TAR)


def _of_folder(path: Path) -> tuple[list[int], bytes]:
    """The ground truth and the bytes of `meta.mat`."""
    folders = [path, path / "data"] if path.is_dir() else [path.parent]
    truth = path if path.is_file() else _first(path, GROUND_TRUTH, folders)
    meta = read_unpacked(_first(path, META, folders), MAX_META_BYTES + 1)
    return _integers(f"the ground truth {truth}", truth, read_text(truth, _MAX_TEXT_BYTES)), meta


def _first(path: Path, name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    where = "beside" if path.is_file() else "in"
    raise InputError(
        f"there is no {name} {where} {path}; give ILSVRC2012_devkit_t12 as it is, the folder or the .tar.gz"
    )


def _of_archive(path: Path, data: bytes) -> tuple[list[int], bytes]:
    """Like `_of_folder`, for the bytes of an archive; nothing is unpacked."""
    if len(data) > _MAX_KIT_BYTES:
        raise InputError(f"{path} holds more than {_MAX_KIT_BYTES} bytes; is it the development kit?")
    found: dict[str, bytes] = {}
    with refusing(f"{path} is damaged", "get it again"), tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in checked_headers(tar, len(data)):
            name = posixpath.basename(info.name)
            file = tar.extractfile(info) if info.isreg() and name in (GROUND_TRUTH, META) else None
            if file is not None:
                found.setdefault(name, file.read())
    for name in (GROUND_TRUTH, META):
        if name not in found:
            raise InputError(f"there is no {name} in {path}; is it the development kit?")
    truth = f"{path}: {GROUND_TRUTH}"
    return _integers(truth, truth, found[GROUND_TRUTH].decode("ascii", "replace")), found[META]


def _integers(what: str, place: object, text: str) -> list[int]:
    """The integers of a text with one on each line."""
    lines = text.splitlines()
    if not any(map(str.strip, lines)):
        raise InputError(f"{what} is empty; is it the right file?")
    numbers = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not (line.isascii() and line.isdigit() and len(line) <= 9):
            raise InputError(f"{place}, line {number}: {line[:40]!r} is no whole number; is it the right file?")
        numbers += [int(line)] if line else []
    return numbers
