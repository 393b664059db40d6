"""One part of the results: rows of predictions in a Parquet file whose name is the hash of its bytes.

The file's metadata holds the key of the run, the images that it accounts for, and what it cost, so that a
reader who has nothing but the files knows where the run stands.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

RunKey = Mapping[str, Any]
_METADATA_KEY = b"ensemble_eval"
_ROW = [("image", pa.string()), ("member", pa.string()), ("crops", pa.int32()), ("label", pa.int32())]
_RANKS = [
    ("rank", pa.int32()),
    ("top5", pa.list_(pa.int32())),
    ("top5_probability", pa.list_(pa.float32())),
]
_SCORES = [("scores", pa.list_(pa.float32()))]
# Null where a decision was not asked for and did not show by itself.
_DECISIONS = [("top5_correct", pa.bool_()), ("top1_correct", pa.bool_())]


class ForeignPartError(Exception):
    """A Parquet file that this package did not write."""


@dataclass(frozen=True)
class Execution:
    """What ran images: all of it that may differ between the starts of one run, or its processes.

    Attributes:
        device: as torch names it.
        device_name: what it is.
        batch_size: crops per batch, when the images were finished.
        threads: of torch on the CPU.
        ranks: processes of that start.
        versions: of Python and the packages that the numbers come from, by name.
    """

    device: str
    device_name: str
    batch_size: int
    threads: int
    ranks: int
    versions: Mapping[str, str]


@dataclass
class Part:
    """What one part holds, while it is being filled and after it was read (without its rows).

    Attributes:
        rows: predictions, as `prediction_rows` yields them.
        images: ids of the images that the rows are about.
        unreadable: reason by image id.
        passes: crops through members that were run for it.
        all_passes: how many a full run would have taken; the same, but for one that stops when decided.
        seconds: of work that it took.
        written: when, in seconds since 1970.
        executions: what ran it; several, if it began with batches that did not fit into memory.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    passes: int = 0
    all_passes: int = 0
    seconds: float = 0.0
    written: float = 0.0
    executions: list[Execution] = field(default_factory=list)


def part_name(data: bytes) -> str:
    """The name that a part's bytes must have."""
    return f"part-{hashlib.sha256(data).hexdigest()[:32]}.parquet"


@lru_cache(maxsize=256)
def _execution(text: str) -> Execution:
    """From JSON. A run has hundreds of thousands of parts and a handful of these, so equal ones are one object."""
    return Execution(**json.loads(text))


def encode(part: Part, key: RunKey) -> bytes:
    """The bytes of a part's file."""
    return encode_table(pa.Table.from_pylist(part.rows, schema=_schema(key)), part, key)


def encode_table(rows: pa.Table, part: Part, key: RunKey) -> bytes:
    """The bytes of a file with these rows and the part's description; the part's own rows are ignored."""
    description = {name: value for name, value in asdict(part).items() if name != "rows"}
    metadata = {_METADATA_KEY: json.dumps({"key": key, **description}).encode()}
    buffer = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(metadata), buffer, compression="zstd")
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def outcome_columns(key: RunKey) -> list[str]:
    """The columns that the tables are made from, beside image, member and crops."""
    return [name for name, _ in _DECISIONS] if key["until_decided"] else ["rank"]


def _schema(key: RunKey) -> pa.Schema:
    if key["until_decided"]:
        return pa.schema(_ROW + _DECISIONS)
    return pa.schema(_ROW + _RANKS + (_SCORES if key["scores"] else []))


def describe(file: BinaryIO) -> tuple[RunKey, Part]:
    """The key and the part, without rows, from the end of its file.

    Raises:
        ForeignPartError: the file was not written by this package.
    """
    try:
        description = json.loads(pq.read_schema(file).metadata[_METADATA_KEY])
        key = description.pop("key")
        # A part of an early version lacks them, and what it counts does not compare.
        _ = key["until_decided"], description["all_passes"]
        executions = [_execution(json.dumps(each)) for each in description.pop("executions", [])]
        return key, Part(rows=[], executions=executions, **description)
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        # pyarrow's own OSError says that the file's end cannot be parsed; the disk's has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ForeignPartError from error
