"""The stored rows of a run as arrays: a block of images at a time, or the decisions about all of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble_eval.crops.schemes import schemes_up_to
from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.evaluation.key import RunKey
from ensemble_eval.scoring.table3 import TOP_1, TOP_5, Decisions

Tables = Callable[[Sequence[str]], Iterable[pa.Table]]
"""Some columns of a run's rows, part by part: `Store.tables`, or `StoredRun.tables`."""

# Parts are joined until they hold as many: a run that saved after every image has one part for each.
_BLOCK_IMAGES = 256
_PLACE = ("image", "member", "crops")


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of some images.

    Attributes:
        images: [images], positions among the ids of all images, sorted.
        rows: [names, schemes, images], where in the table the row of each is.
        table: the columns that were asked for.
    """

    images: NDArray[np.intp]
    rows: NDArray[np.intp]
    table: pa.Table

    @property
    def labels(self) -> list[list[int]]:
        """Every label of each image; the column `label` or `labels` was asked for."""
        name = "labels" if "labels" in self.table.column_names else "label"
        found = self.table[name].take(self.rows[0, 0]).to_pylist()
        return [each if isinstance(each, list) else [each] for each in found]

    def column(self, name: str) -> NDArray[np.generic]:
        """A column with one value a row, by name, scheme and image: [names, schemes, images]."""
        values: NDArray[np.generic] = self.table[name].to_numpy()
        return values[self.rows]

    def matrix(self, name: str) -> NDArray[np.generic]:
        """A column of vectors, as it is stored: [rows, length]."""
        flat: NDArray[np.generic] = self.table[name].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self.table), -1)

    def float_matrix(self, name: str) -> NDArray[np.float32]:
        """As `matrix`, of a column of float32."""
        return self.matrix(name).astype(np.float32, copy=False)


def blocks(tables: Tables, key: RunKey, images: Sequence[str], columns: Sequence[str]) -> Iterator[Block]:
    """All images with predictions, some at a time, in the order of the parts.

    Args:
        tables: the rows of any run, finished or not.
        key: of the run.
        images: ids of the images with predictions, sorted.
        columns: further ones than image, member and crops.

    Raises:
        EnsembleEvalError: rows of an image are missing, or stand there twice.
    """
    waiting, left = list[pa.Table](), len(images)
    rows_of_image = len(key.row_names) * len(schemes_up_to(key.crops))
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
    names, schemes = key.row_names, list(schemes_up_to(key.crops))
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
    """Where among the values each entry of a column is."""
    found = pc.index_in(column, value_set=pa.array(values, column.type))
    if found.null_count:
        raise EnsembleEvalError(
            "the predictions hold rows of an image, member or scheme that is none of the run's"
        )
    positions: NDArray[np.intp] = found.to_numpy().astype(np.intp)
    return positions


def read_decisions(tables: Tables, key: RunKey, images: Sequence[str], *, with_answers: bool = True) -> Decisions:
    """The decisions of a run, finished or not, about the images that it has done.

    Args:
        tables, key, images: as of `blocks`.
        with_answers: whether to read best classes and their scores, where they are stored.

    Raises:
        EnsembleEvalError: rows are missing, or the run has rewritten a part since the folder was read.
    """
    decided, schemes = bool(key.until_decided), tuple(schemes_up_to(key.crops))
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
    """Whether each row has each image wrong, and whether each row knows it of all these images."""
    correct = block.table[f"top{k}_correct"]
    known = correct.is_valid().to_numpy()[block.rows]
    return ~correct.fill_null(False).to_numpy()[block.rows], known.all(axis=2)
