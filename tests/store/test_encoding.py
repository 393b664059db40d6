import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import run_key
from test_store import row

from ensemble_eval.evaluation.key import RUN, columns_of
from ensemble_eval.store.parts import Part, encode

RANKED = [
    {
        **row("a"),
        "top5_probability": np.array([0.75, 0.25], np.float32),
        "scores": np.array([0.1, 0.9], np.float32),
    },
    {**row("b", rank=1), "top5": np.array([0, 1], np.int32)},
]
DECIDED = [
    {"image": image, "member": "a", "crops": 1, "label": 1, "top5_correct": top5, "top1_correct": top1}
    for image, top5, top1 in (("a", True, None), ("b", None, False))
]


@pytest.mark.parametrize(("decided", "rows"), [(False, RANKED), (False, []), (True, DECIDED), (True, [])])
def test_columns_are_those_that_pyarrow_makes_of_the_rows(decided: bool, rows: list[dict[str, Any]]) -> None:
    key = run_key(scores=not decided, until_decided=("top-5",) if decided else ())
    table = pq.read_table(io.BytesIO(encode(Part(rows, ["a", "b"]), RUN, key)))
    assert table.column_names == columns_of(key)
    expected = pa.Table.from_pylist(rows, schema=table.schema)
    assert table.equals(expected)
