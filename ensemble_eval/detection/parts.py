"""Rows of finished images in a folder of Parquet parts that survives any interruption.

A part is written as a whole under the hash of its own bytes, so one that was cut short or changed is noticed and
done again. Any number of processes may write and read at once. Of an image that two of them did, one copy counts.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ensemble_eval.errors import InputError
from ensemble_eval.files import read_regular, require_writable, write_atomically

_METADATA_KEY = b"ensemble_eval"
_NAME_DIGITS = 32
# What a crash can cost.
SAVE_EVERY_SECONDS = 30.0

Unit = tuple[str, ...]


class ImageParts:
    """The parts of one job.

    Args:
        folder: of the parts; it need not exist yet.
        key: what the rows depend on, as JSON values; parts of another key are refused.
        schema: of the rows.
        unit: columns that tell what is done as a whole, such as an image; a unit's rows lie in one part.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], schema: pa.Schema, unit: Sequence[str]) -> None:
        self._folder = folder
        self._key = json.loads(json.dumps(key))
        self._schema = schema
        self._unit = tuple(unit)

    def open(self) -> set[Unit]:
        """What is done, for a process that will write more.

        Raises:
            InputError: the folder holds another job's parts, or takes no files.
        """
        require_writable(self._folder)
        return set(self._units(self.read()))

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a part, which holds all rows of some units; nothing where there are no rows.

        Raises:
            InputError: the disk does not take it.
        """
        if not rows:
            return
        metadata = {_METADATA_KEY: json.dumps(self._key).encode()}
        table = pa.Table.from_pylist(list(rows), schema=self._schema.with_metadata(metadata))
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        data: bytes = buffer.getvalue().to_pybytes()
        write_atomically(self._folder / f"{_digest(data)}.parquet", data)

    def read(self) -> pa.Table:
        """All rows, sorted by unit and each unit once; its rows keep their order.

        Raises:
            InputError: the folder holds another job's parts.
        """
        tables, seen = [], set[Unit]()
        for path in sorted(self._folder.glob("[!.]*.parquet")):
            data = read_regular(path)
            if _digest(data) != path.stem:
                # Cut short or changed since: it is as if it had not been written.
                continue
            table = pq.read_table(pa.BufferReader(data))
            self._refuse_other_key(path, table)
            units = self._units(table)
            new = [index for index, unit in enumerate(units) if unit not in seen]
            seen.update(units)
            tables.append(table.take(new) if len(new) < len(units) else table)
        if not tables:
            return self._schema.empty_table()
        rows = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
        order = sorted(range(len(rows)), key=self._units(rows).__getitem__)
        return rows.take(order)

    def clear(self) -> None:
        """Remove all parts."""
        for path in self._folder.glob("[!.]*.parquet"):
            path.unlink(missing_ok=True)

    def _units(self, table: pa.Table) -> list[Unit]:
        return list(zip(*(table[name].to_pylist() for name in self._unit), strict=True))

    def _refuse_other_key(self, path: Path, table: pa.Table) -> None:
        stated = (table.schema.metadata or {}).get(_METADATA_KEY)
        there = json.loads(stated) if stated else {}
        names = [name for name in {**there, **self._key} if there.get(name) != self._key.get(name)]
        if names or not table.schema.remove_metadata().equals(self._schema):
            differences = "; ".join(
                f"{name} was {there.get(name)!r} and is now {self._key.get(name)!r}" for name in names
            )
            raise InputError(
                f"{path.parent} was written with other settings ({differences or 'other columns'}); choose "
                "another `out`, or start over with `fresh=True`"
            )


class RowBuffer:
    """Collects the rows of finished units, and writes them as a part when they are many or old.

    Args:
        parts: where they go.
        most_units: in a part.
        clock: seconds, monotonic.
    """

    def __init__(self, parts: ImageParts, most_units: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._most_units = most_units
        self._clock = clock
        self._rows: list[Mapping[str, Any]] = []
        self._units = 0
        self._opened = clock()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take all rows of one unit.

        Raises:
            InputError: a part was due, and the disk does not take it.
        """
        self._rows.extend(rows)
        self._units += 1
        if self._units >= self._most_units or self._clock() - self._opened > SAVE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what there is.

        Raises:
            InputError: the disk does not take it.
        """
        self._parts.write(self._rows)
        # Only now: what an interruption keeps from being written is written by the next call.
        self._rows, self._units, self._opened = [], 0, self._clock()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]
