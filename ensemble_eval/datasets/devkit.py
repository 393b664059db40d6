"""The ground truth of ILSVRC-2012's development kit, whose class ids are 1-based and in an order of their own."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble_eval.datasets.ilsvrc import integers, validation_number
from ensemble_eval.datasets.labels import Labels
from ensemble_eval.errors import InputError, first_line
from ensemble_eval.files import open_regular

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
# The kit of 2012 has 2.5 MB; a compressed file may claim to hold any number of bytes.
_MAX_BYTES = 1 << 26
_MAX_KIT_BYTES = 1 << 28
_MATLAB_HEADER, _COMPRESSED = 128, 15


def open_devkit(path: Path, class_names: Sequence[str]) -> Labels:
    """The validation images' labels by the development kit.

    Args:
        path: the kit's folder, its `.tar.gz`, or the ground truth itself with `meta.mat` beside it.
        class_names: in index order; the kit knows WNIDs.

    Raises:
        InputError: a file is missing, damaged or of another kit, SciPy is not installed, or the classes are not
            named by WNIDs.
    """
    truth, meta = _of_archive(path) if path.is_file() and _is_gzip(path) else _of_folder(path)
    wnid_by_id = _wnids(path, meta)
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


def _is_gzip(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(2) == b"\x1f\x8b"


def _of_folder(path: Path) -> tuple[list[int], bytes]:
    """The ground truth and the bytes of `meta.mat`."""
    folders = [path, path / "data"] if path.is_dir() else [path.parent]
    truth = path if path.is_file() else _first(path, GROUND_TRUTH, folders)
    meta = _first(path, META, folders)
    with open_regular(meta) as file:
        return integers(truth, "the ground truth"), _bounded(meta, file.read(_MAX_BYTES + 1))


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
        with open_regular(path) as file, gzip.open(file) as plain:
            data = plain.read(_MAX_KIT_BYTES + 1)
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


def _bounded(path: Path, data: bytes) -> bytes:
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path} has more than {_MAX_BYTES} bytes; is it the right file?")
    return data


def _wnids(path: Path, meta: bytes) -> Mapping[int, str]:
    """The WNID of each ILSVRC2012_ID that is a class of the challenge, and no group of classes."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(
            f"the development kit's {META} needs SciPy; install it with pip install 'ensemble-eval[devkit]'"
        ) from error
    _refuse_bomb(path, meta)
    try:
        # It reads from a file object too, though its stub does not say so.
        found: Any = loadmat(io.BytesIO(meta), squeeze_me=True, struct_as_record=True, variable_names=["synsets"])  # type: ignore[arg-type]
        synsets = found["synsets"]
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        wnids = {int(ilsvrc_id): str(wnid) for ilsvrc_id, wnid, children in rows if int(children) == 0}
    except Exception as error:
        # What a damaged file makes of SciPy is not documented.
        raise InputError(
            f"{path}: {META} is damaged, or of another kit ({first_line(error)}); get it again"
        ) from error
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
            unpack = zlib.decompressobj()
            try:
                unpacked = unpack.decompress(data[position + 8 : position + 8 + size], _MAX_BYTES + 1)
            except zlib.error as error:
                raise InputError(f"{path}: {META} is damaged ({error}); get it again") from error
            _bounded(path, unpacked)
        position += 8 + size
