"""The stored rows of a run as arrays, a block of images at a time: what does not fit into memory at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.members.ensemble import ENSEMBLE_ROWS
from ensemble_eval.results.reading import StoredRun

# Parts are joined until they hold as many: a run that saved after every image has one part for each.
_BLOCK_IMAGES = 256
_PLACE = ("image", "member", "crops")


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of some images.

    Attributes:
        images: [images], positions in `StoredRun.images`.
        rows: [names, schemes, images], where in the table the row of each is.
        table: the columns that were asked for.
    """

    images: NDArray[np.intp]
    rows: NDArray[np.intp]
    table: pa.Table

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


def row_names(results: StoredRun) -> tuple[str, ...]:
    """The names in the column `member`: the members, and with several of them "ensemble"."""
    return (*results.members, ENSEMBLE_ROWS) if len(results.members) > 1 else results.members


def blocks(results: StoredRun, columns: Sequence[str]) -> Iterator[Block]:
    """All images with predictions, some at a time, in the order of the parts.

    Args:
        results: of any run, finished or not.
        columns: further ones than image, member and crops.

    Raises:
        EnsembleEvalError: rows of an image are missing.
    """
    waiting: list[pa.Table] = []
    rows_of_image = len(row_names(results)) * len(results.crops)
    for table in results.tables([*_PLACE, *columns]):
        waiting.append(table)
        if sum(map(len, waiting)) >= _BLOCK_IMAGES * rows_of_image:
            yield _block(results, pa.concat_tables(waiting))
            waiting = []
    if sum(map(len, waiting)):
        yield _block(results, pa.concat_tables(waiting))


def _block(results: StoredRun, table: pa.Table) -> Block:
    names, schemes = row_names(results), results.crops
    images, of_image = np.unique(_positions(table["image"], results.images), return_inverse=True)
    member, scheme = _positions(table["member"], names), _positions(table["crops"], schemes)
    rows = np.full((len(names), len(schemes), len(images)), -1)
    rows[member, scheme, of_image] = np.arange(len(table))
    if (rows < 0).any() or rows.size != len(table):
        raise EnsembleEvalError(f"{results.folder} lacks rows of some images, or holds rows twice")
    return Block(images, rows, table)


def _positions(column: pa.ChunkedArray, values: Sequence[str] | Sequence[int]) -> NDArray[np.intp]:
    """Where among the values each entry of a column is."""
    found = pc.index_in(column, value_set=pa.array(values, column.type))
    if found.null_count:
        raise EnsembleEvalError(
            "the predictions hold rows of an image, member or scheme that is none of the run's"
        )
    positions: NDArray[np.intp] = found.to_numpy().astype(np.intp)
    return positions
