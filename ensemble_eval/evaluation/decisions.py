"""Reads the stored rows of a run as arrays, in blocks of images or as the decisions about all images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.evaluation.key import RunKey
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Decisions

Tables = Callable[[Sequence[str]], Iterable[pa.Table]]
"""A function that reads some columns part by part: `Store.tables` or `StoredRun.tables`."""

# Parts are joined to blocks of this size, because a run may have stored one part for each image.
_BLOCK_IMAGES = 256
_PLACE = ("image", "member", "crops")


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of some images.

    Attributes:
        images: Positions among the sorted ids of all images, int [images].
        rows: Positions of the rows in the table, int [names, schemes, images].
        table: The requested columns.
    """

    images: NDArray[np.intp]
    rows: NDArray[np.intp]
    table: pa.Table

    @property
    def labels(self) -> list[list[int]]:
        """All labels of each image, from the column `label` or `labels`."""
        name = "labels" if "labels" in self.table.column_names else "label"
        found = self.table[name].take(self.rows[0, 0]).to_pylist()
        return [each if isinstance(each, list) else [each] for each in found]

    def column(self, name: str) -> NDArray[np.generic]:
        """Return a column with one value per row as an array [names, schemes, images]."""
        values: NDArray[np.generic] = self.table[name].to_numpy()
        return values[self.rows]

    def matrix(self, name: str) -> NDArray[np.generic]:
        """Return a column of vectors as an array [rows, length]."""
        flat: NDArray[np.generic] = self.table[name].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self.table), -1)

    def float_matrix(self, name: str) -> NDArray[np.float32]:
        """As `matrix`, for a column of float32."""
        return self.matrix(name).astype(np.float32, copy=False)


def blocks(tables: Tables, key: RunKey, images: Sequence[str], columns: Sequence[str]) -> Iterator[Block]:
    """Yield all images with predictions in blocks, in the order of the parts.

    Args:
        tables: Reads the rows of a run, which need not be finished.
        key: The key of the run.
        images: The sorted ids of the images with predictions.
        columns: Columns to read beside image, member and crops.

    Raises:
        EnsembleEvalError: Rows of an image are missing or repeated.
    """
    waiting, left = list[pa.Table](), len(images)
    rows_of_image = len(key.row_names) * len(key.schemes)
    for table in tables([*_PLACE, *columns]):
        waiting.append(table)
        if sum(map(len, waiting)) >= _BLOCK_IMAGES * rows_of_image:
            yield (block := _block(key, images, pa.concat_tables(waiting)))
            waiting, left = [], left - len(block.images)
    if sum(map(len, waiting)):
        yield (block := _block(key, images, pa.concat_tables(waiting)))
        left -= len(block.images)
    if left:
        raise _not_once(images)


def _block(key: RunKey, ids: Sequence[str], table: pa.Table) -> Block:
    names, schemes = key.row_names, key.schemes
    images, of_image = np.unique(_positions(table["image"], ids), return_inverse=True)
    member, scheme = _positions(table["member"], names), _positions(table["crops"], schemes)
    rows = np.full((len(names), len(schemes), len(images)), -1)
    rows[member, scheme, of_image] = np.arange(len(table))
    if (rows < 0).any() or rows.size != len(table):
        raise _not_once(ids)
    return Block(images, rows, table)


def _not_once(images: Sequence[str]) -> EnsembleEvalError:
    return EnsembleEvalError(
        f"the stored predictions do not hold each of {len(images)} images exactly once for every member and "
        "scheme; is another run at work in the same folder?"
    )


def _positions(column: pa.ChunkedArray, values: Sequence[str] | Sequence[int]) -> NDArray[np.intp]:
    """Return the position of each entry of a column among some values."""
    found = pc.index_in(column, value_set=pa.array(values, column.type))
    if found.null_count:
        raise EnsembleEvalError(
            "the predictions hold rows of an image, member or scheme that is none of the run's"
        )
    positions: NDArray[np.intp] = found.to_numpy().astype(np.intp)
    return positions


def read_decisions(tables: Tables, key: RunKey, images: Sequence[str], *, with_answers: bool) -> Decisions:
    """Read the decisions of a run about the images that are done.

    Args:
        tables, key, images: As in `blocks`.
        with_answers: Whether to read the best classes and their scores, if they are stored.

    Raises:
        EnsembleEvalError: Rows are missing, or the run has rewritten a part since the folder was read.
    """
    decided, schemes = bool(key.until_decided), key.schemes
    shape = (len(key.row_names), len(schemes), len(images))
    labels = np.empty(len(images), np.int32)
    wrong = {k: np.empty(shape, bool) for k in (TOP_5, TOP_1)}
    known = {k: np.ones(shape[:2], bool) for k in wrong}
    answered, confidence, ranks = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.int32)
    with_answers = with_answers and not decided
    columns = ["top5_correct", "top1_correct"] if decided else ["rank"]
    columns += ["top5", "top5_probability"] if with_answers else []
    several = [list[int]()] * len(images) if key.scope.several_labels else None
    columns += ["labels"] if several is not None else []
    for block in blocks(tables, key, images, ["label", *columns]):
        labels[block.images] = block.column("label")[0, 0]
        if several is not None:
            for image, each in zip(block.images, block.labels, strict=True):
                several[image] = each
        for k in wrong if decided else ():
            wrong[k][..., block.images], known_of_block = _decided_wrong(block, k)
            known[k] &= known_of_block
        if not decided:
            ranks[..., block.images] = block.column("rank")
        if with_answers:
            answered[..., block.images] = block.matrix("top5")[:, 0][block.rows]
            confidence[..., block.images] = block.matrix("top5_probability")[:, 0][block.rows]
    if not decided:
        wrong = {k: ranks >= k for k in wrong}
    return Decisions(
        tuple(images),
        labels,
        key.member_names,
        key.row_names,
        schemes,
        wrong,
        known,
        answered=answered if with_answers else None,
        confidence=confidence if with_answers else None,
        ranks=None if decided else ranks,
        several_labels=None if several is None else tuple(several),
    )


def _decided_wrong(block: Block, k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows classify which images wrongly, and which rows have decided all of these images."""
    correct = block.table[f"top{k}_correct"]
    known = correct.is_valid().to_numpy()[block.rows]
    return ~correct.fill_null(False).to_numpy()[block.rows], known.all(axis=2)
