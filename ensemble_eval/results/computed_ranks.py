"""Ranks in the means of members that no run stored, computed from the members' stored scores."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.key import columns_of
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.results.selections import Selection
from ensemble_eval.scoring.metrics import best_rank, counted_of


def computed_ranks(results: StoredRun, selections: Sequence[Selection]) -> pd.DataFrame:
    """Rows of `image, member, crops, rank` for members whose mean is not stored.

    Args:
        results: of a run that stored scores.
        selections: of members, each a row of the table for every scheme.

    Raises:
        InputError: the run stored no scores; it says which argument keeps them.
    """
    _require_scores(results, selections[0])
    rows = []
    counted = counted_of(results.key.scope)
    label_column = "labels" if results.key.scope.several_labels else "label"
    for table in results.tables(["image", "member", "crops", label_column, "scores"]):
        for crops in results.crops:
            of_member = {name: rows_of(table, name, crops) for name in results.members}
            found_labels = of_member[results.members[0]][label_column].to_pylist()
            labels = [each if isinstance(each, list) else [each] for each in found_labels]
            images = of_member[results.members[0]]["image"]
            scores = {name: score_matrix(found) for name, found in of_member.items()}
            for each in selections:
                mean = np.stack([scores[name] for name in each.members]).mean(axis=0, dtype=np.float64)
                ranks = [best_rank(*pair, counted) for pair in zip(mean, labels, strict=True)]
                rows.append(pd.DataFrame({"image": images, "member": each.label, "crops": crops, "rank": ranks}))
    return pd.concat(rows)


def _require_scores(results: StoredRun, selection: Selection) -> None:
    if "scores" in columns_of(results.key):
        return
    why = (
        "a run that stops when decided stores none; evaluate without `until_decided=True` and"
        if results.key.until_decided
        else "this run stored none; evaluate"
    )
    raise InputError(
        f"the rows of {', '.join(selection.members)} need the scores of their members, and {why} with "
        "`store_scores=True`"
    )


def rows_of(table: pa.Table, member: str, crops: int) -> pa.Table:
    """The rows of one member and scheme."""
    return table.filter(pc.and_(pc.equal(table["member"], member), pc.equal(table["crops"], crops)))


def score_matrix(table: pa.Table) -> NDArray[np.float32]:
    """The column `scores` as float32 [rows, classes]."""
    scores = table["scores"].combine_chunks().flatten().to_numpy()
    matrix: NDArray[np.float32] = scores.reshape(len(table), -1)
    return matrix
