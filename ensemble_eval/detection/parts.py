"""Rows of finished images in a folder of Parquet parts that survives any interruption.

A part is written as a whole under the hash of its own bytes, so one that was cut short or changed is noticed and
done again. Any number of processes may write and read at once. Of an image that two of them did, one copy counts.
Each image is a row group of its own, so that one is read without the others.
"""

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ensemble_eval.errors import InputError
from ensemble_eval.files import read_regular, require_writable, write_atomically

IMAGE = "image"
"""The column of the image's id, which every schema has."""

_METADATA_KEY = b"ensemble_eval"
_NAME_DIGITS = 32
# Their metadata takes some hundred KiB each.
_MOST_OPEN_FILES = 16

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Place:
    """Where an image's rows lie."""

    path: Path
    row_group: int


class ImageParts:
    """The parts of one job.

    Args:
        folder: of the parts; it need not exist yet.
        key: what the rows depend on, as JSON values; parts of another key are refused.
        schema: of the rows, with a column `image`.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], schema: pa.Schema) -> None:
        self._folder = folder
        self._key = json.loads(json.dumps(key))
        self._schema = schema
        self._read = set[Path]()
        self._places: dict[str, _Place] = {}
        self._opened = functools.lru_cache(_MOST_OPEN_FILES)(_opened)

    def open(self) -> set[str]:
        """The images that are done, for a process that will write more.

        Raises:
            InputError: the folder holds another job's parts, or takes no files.
        """
        require_writable(self._folder)
        return self.images()

    def images(self) -> set[str]:
        """The images that are done, those of other processes included.

        Raises:
            InputError: the folder holds another job's parts.
        """
        # A name is a hash of what the file holds, so a file need be read only once.
        for path in sorted(set(self._folder.glob("[!.]*.parquet")) - self._read):
            data = read_regular(path)
            # Cut short or changed since: it is as if it had not been written.
            if _digest(data) == path.stem:
                self._read.add(path)
                self._take_note(path, pq.ParquetFile(pa.BufferReader(data)))
        return set(self._places)

    def rows(self, image: str) -> list[dict[str, Any]]:
        """The rows of an image that is done, in their order; lists are numpy arrays.

        Raises:
            InputError: its part has gone or changed since it was found.
        """
        if image not in self._places:
            self.images()
        place = self._places[image]
        try:
            table = self._opened(place.path).read_row_group(place.row_group)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{place.path} has changed while it was in use ({error}); run the command again"
            ) from error
        columns = {name: table.column(name) for name in table.column_names}
        return [{name: _value(column[row]) for name, column in columns.items()} for row in range(len(table))]

    def write(self, rows: Sequence[Row]) -> None:
        """Add a part with all rows of some images, one image after the other; nothing if there are no rows.

        Raises:
            InputError: the disk does not take it.
        """
        if not rows:
            return
        schema = self._schema.with_metadata({_METADATA_KEY: json.dumps(self._key).encode()})
        buffer = pa.BufferOutputStream()
        with pq.ParquetWriter(
            buffer, schema, compression="zstd", write_statistics=False, write_page_checksum=True
        ) as writer:
            for _, of_image in itertools.groupby(rows, key=lambda row: row[IMAGE]):
                writer.write_table(pa.Table.from_pylist(list(of_image), schema=schema))
        data: bytes = buffer.getvalue().to_pybytes()
        write_atomically(self._folder / f"{_digest(data)}.parquet", data)

    def clear(self) -> None:
        """Remove all parts."""
        for path in self._folder.glob("[!.]*.parquet"):
            path.unlink(missing_ok=True)
        self._read.clear()
        self._places.clear()
        self._opened.cache_clear()

    def _take_note(self, path: Path, file: pq.ParquetFile) -> None:
        """Remember which images a part holds; of two copies of one, that in the part of the first name."""
        self._refuse_other_key(path, file.schema_arrow)
        for row_group in range(file.num_row_groups):
            images = set(file.read_row_group(row_group, columns=[IMAGE]).column(IMAGE).to_pylist())
            if len(images) != 1:
                raise InputError(
                    f"{path} was written by an earlier version of ensemble-eval; start over with `fresh=True`"
                )
            [image] = images
            if image not in self._places or path < self._places[image].path:
                self._places[image] = _Place(path, row_group)

    def _refuse_other_key(self, path: Path, schema: pa.Schema) -> None:
        stated = (schema.metadata or {}).get(_METADATA_KEY)
        there = json.loads(stated) if stated else {}
        names = [name for name in {**there, **self._key} if there.get(name) != self._key.get(name)]
        if names or not schema.remove_metadata().equals(self._schema):
            differences = "; ".join(
                f"{name} was {there.get(name)!r} and is now {self._key.get(name)!r}" for name in names
            )
            raise InputError(
                f"{path.parent} was written with other settings ({differences or 'other columns'}); choose "
                "another `out`, or start over with `fresh=True`"
            )


class RowBuffer:
    """Collects the rows of finished images, and writes them as a part when they are many or old.

    Args:
        parts: where they go.
        most_images: in a part.
        save_every: seconds after which a part is written however small it is.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        parts: ImageParts,
        most_images: int,
        save_every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._most_images = most_images
        self._save_every = save_every
        self._clock = clock
        self._rows: list[Row] = []
        self._images = 0
        self._opened = clock()

    def add(self, rows: Sequence[Row]) -> None:
        """Take all rows of one image.

        Raises:
            InputError: a part was due, and the disk does not take it.
        """
        self._rows.extend(rows)
        self._images += 1
        if self._images >= self._most_images or self._clock() - self._opened > self._save_every:
            self.write()

    def write(self) -> None:
        """Write what there is.

        Raises:
            InputError: the disk does not take it.
        """
        self._parts.write(self._rows)
        # Only now: what an interruption keeps from being written is written by the next call.
        self._rows, self._images, self._opened = [], 0, self._clock()


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


def _value(scalar: pa.Scalar) -> Any:
    if isinstance(scalar, pa.ListScalar):
        return scalar.values.to_numpy()
    return scalar.as_py()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]
