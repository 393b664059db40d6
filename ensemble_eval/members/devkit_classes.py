"""The classes of ILSVRC-2012 in the order of its development kit, which `meta.mat` tells."""

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble_eval.errors import InputError, needing_extra, refusing

META = "meta.mat"
# The kit's has 0.3 MB; a compressed file may claim to hold any number of bytes.
MAX_META_BYTES = 1 << 26
_MATLAB_HEADER, _COMPRESSED = 128, 15


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
