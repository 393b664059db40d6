"""The ground truth of ILSVRC-2012's development kit, whose class ids are 1-based and in an order of their own."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ensemble_eval.datasets.ilsvrc import integers, validation_number
from ensemble_eval.datasets.labels import Labels
from ensemble_eval.errors import InputError, first_line
from ensemble_eval.files import open_regular, read_unpacked
from ensemble_eval.members.devkit_classes import MAX_META_BYTES, META, wnids_by_ilsvrc_id

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
# The kit of 2012 has 2.5 MB; a compressed file may claim to hold any number of bytes.
_MAX_KIT_BYTES = 1 << 28
_TAR_AT, _TAR = 257, b"ustar"


def open_devkit(path: Path, class_names: Sequence[str]) -> Labels:
    """The validation images' labels by the development kit.

    Args:
        path: the kit's folder, its `.tar.gz`, or the ground truth itself with `meta.mat` beside it.
        class_names: in index order; the kit knows WNIDs.

    Raises:
        InputError: a file is missing, damaged or of another kit, SciPy is not installed, or the classes are not
            named by WNIDs.
    """
    truth, meta = _of_archive(path) if path.is_file() and is_archive(path) else _of_folder(path)
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
        by_number[str(number)] = (index_by_wnid[wnid],)
    return Labels(str(path), "the development kit's ground truth", validation_number, by_number)


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, packed or not.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    return read_unpacked(path, tarfile.BLOCKSIZE)[_TAR_AT:].startswith(_TAR)


def _of_folder(path: Path) -> tuple[list[int], bytes]:
    """The ground truth and the bytes of `meta.mat`."""
    folders = [path, path / "data"] if path.is_dir() else [path.parent]
    truth = path if path.is_file() else _first(path, GROUND_TRUTH, folders)
    meta = _first(path, META, folders)
    with open_regular(meta) as file:
        return integers(truth, "the ground truth"), file.read(MAX_META_BYTES + 1)


def _first(path: Path, name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    where = "beside" if path.is_file() else "in"
    raise InputError(
        f"there is no {name} {where} {path}; give ILSVRC2012_devkit_t12 as it is, the folder or the .tar.gz"
    )


def _of_archive(path: Path) -> tuple[list[int], bytes]:
    """As `_of_folder`; the archive is small enough to be read into memory, where nothing is unpacked."""
    try:
        data = read_unpacked(path, _MAX_KIT_BYTES + 1)
        if len(data) > _MAX_KIT_BYTES:
            raise InputError(f"{path} holds more than {_MAX_KIT_BYTES} bytes; is it the development kit?")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found = {name: _inner(tar, name) for name in (GROUND_TRUTH, META)}
    except InputError:
        raise
    except Exception as error:
        # What a damaged archive makes of gzip and tarfile is not documented in full.
        raise InputError(f"{path} is damaged ({first_line(error)}); get it again") from error
    missing = [name for name, inner in found.items() if inner is None]
    if missing:
        raise InputError(f"there is no {missing[0]} in {path}; is it the development kit?")
    truth = (found[GROUND_TRUTH] or b"").decode("ascii", "replace").split()
    for text in truth:
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise InputError(f"{path}: {GROUND_TRUTH} holds {text[:40]!r}, which is no whole number; get it again")
    return [int(text) for text in truth], found[META] or b""


def _inner(tar: tarfile.TarFile, name: str) -> bytes | None:
    end = -1
    while (info := tar.next()) is not None:
        # A size below zero would lead back to what was read, without an end.
        if info.size < 0 or info.offset_data <= end:
            raise tarfile.ReadError(f"{info.name!r} does not lie where its header says")
        end = info.offset_data
        if info.isreg() and info.name.rpartition("/")[2] == name:
            file = tar.extractfile(info)
            return None if file is None else file.read()
    return None
