"""From a part's rows to the bytes of its Parquet file, column by column."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble_eval.results.key import RunKey
from ensemble_eval.results.parts import CROP_RANK_COLUMNS, DECISION_COLUMNS, METADATA_KEY, Part

_ROW = [("image", pa.string()), ("member", pa.string()), ("crops", pa.int32()), ("label", pa.int32())]
# Only where images may have several, of which `label` is the first.
_SEVERAL_LABELS = [("labels", pa.list_(pa.int32()))]
_RANKS = [
    ("rank", pa.int32()),
    ("top5", pa.list_(pa.int32())),
    ("top5_probability", pa.list_(pa.float32())),
]
_SCORES = [("scores", pa.list_(pa.float32()))]
_CROP_RANKS = [(name, pa.list_(pa.uint16())) for name in CROP_RANK_COLUMNS]
_DECISIONS = [(name, pa.bool_()) for name in DECISION_COLUMNS]


def encode(part: Part, key: RunKey) -> bytes:
    """The bytes of a part's file."""
    schema = _schema(key)
    columns = [_column([row.get(field.name) for row in part.rows], field.type) for field in schema]
    return encode_table(pa.table(columns, schema=schema), part, key)


def encode_table(rows: pa.Table, part: Part, key: RunKey) -> bytes:
    """The bytes of a file with these rows and the part's description; the part's own rows are ignored."""
    # Without the rows first: `asdict` copies all that it finds.
    description = asdict(replace(part, rows=[]))
    del description["rows"]
    metadata = {METADATA_KEY: json.dumps({"key": key.to_json(), **description}).encode()}
    buffer = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(metadata), buffer, compression="zstd")
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def columns_of(key: RunKey) -> list[str]:
    """The columns of the parts of a run."""
    names: list[str] = _schema(key).names
    return names


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """One column. Vectors are joined by numpy: three times as fast as pyarrow's way over Python's objects."""
    if not pa.types.is_list(kind) or not values or any(value is None for value in values):
        return pa.array(values, kind)
    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    joined = np.concatenate(values).astype(kind.value_type.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(joined))


def _schema(key: RunKey) -> pa.Schema:
    row = _ROW + (_SEVERAL_LABELS if key.scope.several_labels else [])
    if key.until_decided:
        return pa.schema(row + _DECISIONS)
    return pa.schema(row + _RANKS + (_SCORES if key.scores else []) + (_CROP_RANKS if key.surface else []))
