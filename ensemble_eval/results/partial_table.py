"""Table 3 of the images that a run has stored so far: for whoever looks at it while it is at work."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.files import write_atomically
from ensemble_eval.reports.markdown import table_markdown
from ensemble_eval.reports.table_csv import table_csv
from ensemble_eval.reports.tables import Column, Table, marked, marks
from ensemble_eval.results.parts import outcome_columns, read_parts
from ensemble_eval.results.store import combine, read_rows
from ensemble_eval.scoring.table3 import Row, one_model_member, table3

EVERY_SECONDS = 60.0
# Of the run's time, what looking at its parts may take.
_MOST_SHARE = 0.01
_NAMES = ("partial.csv", "partial.md")
_COLUMNS = (
    Column("models", "models", "count"),
    Column("crops", "crops", "count"),
    Column("cost", "cost", "count"),
    Column("top5_error", "top-5 error", "percent"),
    Column("top5", "95% interval", "percent interval"),
    Column("compared_to_base", "to base", "points"),
    Column("top1_error", "top-1 error", "percent"),
)


@dataclass(frozen=True)
class PartialTable:
    """The rows of Table 3 for some of the images.

    Attributes:
        rows: as of `table3`.
        one_model_member: the member that stands for one model, on these images.
        images: with predictions.
        missing: images that are neither evaluated nor unreadable.
        of_images: of the data set.
        counted: what the errors are counted over, in one phrase each where that is not the usual.
    """

    rows: list[Row]
    one_model_member: str
    images: int
    missing: int
    of_images: int
    counted: tuple[str, ...] = ()

    def table(self) -> Table:
        """The rows as a table for any format, marked with what is missing and what is counted."""
        rows = tuple(
            (
                row.models,
                row.crops,
                row.cost,
                row.top5_error,
                (row.top5_low, row.top5_high),
                row.compared_to_base,
                row.top1_error,
            )
            for row in self.rows
        )
        notes = (
            f"One model is {self.one_model_member}, the member with the lowest one-crop top-1 error on these "
            "images.",
        )
        table = Table("partial", f"Table 3: errors on {self.images} images", _COLUMNS, rows, notes)
        return marked(table, marks(self.missing, self.of_images, self.counted))


def read_partial_table(out: Path) -> PartialTable | None:
    """Read the table of the images that are stored; None while there are none, and where they have no labels.

    Only the ends of the parts and the columns of the ranks are read, so parts may be added meanwhile.

    Raises:
        InputError: the folder holds parts of several runs.
        EnsembleEvalError: a part was rewritten meanwhile, or its rows are damaged.
    """
    import pyarrow as pa

    found = read_parts(out, whole=False)
    progress = combine(found.by_name)
    if found.key is None or not found.key.scope.labelled or not progress.done:
        return None
    try:
        columns = [*outcome_columns(found.key), "label"]
        rows = pa.concat_tables(read_rows(out, found.by_name, columns)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        # The end of a part may be whole and its rows not. The next start of the run finds out which it is.
        raise EnsembleEvalError(f"a part in {out} is damaged; the next start does its images again") from error
    if rows.empty:
        return None
    # Of an image that stands in several parts any will do: all runs of it give the same.
    rows = rows.drop_duplicates(["image", "member", "crops"])
    members = found.key.member_names
    missing = found.key.images - len(progress.accounted)
    return PartialTable(
        rows=table3(rows, members),
        one_model_member=one_model_member(rows, members),
        images=len(progress.done),
        missing=missing,
        of_images=found.key.images,
        counted=found.key.counted(None if missing else rows["label"].nunique()),
    )


class LiveTable:
    """Writes the partial table beside the results, every minute or less often, at no more than 1% of the time.

    Args:
        out: the output folder.
        every_seconds: at the most often.
        clock: seconds, monotonic.
    """

    def __init__(
        self, out: Path, every_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._every = EVERY_SECONDS if every_seconds is None else every_seconds
        self._clock = clock
        self._due = clock() + self._every

    def write_if_due(self) -> None:
        """Write `partial.csv` and `partial.md` if it is time, each wholly or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        began = self._clock()
        if began < self._due:
            return
        try:
            partial = read_partial_table(self._out)
        except EnsembleEvalError:
            # Somebody else is at the folder; the run itself will say what is wrong, if anything is.
            partial = None
        if partial is not None:
            table = partial.table()
            for name, text in zip(_NAMES, (table_csv(table), table_markdown(table)), strict=True):
                write_atomically(self._out / name, text.encode())
        taken = self._clock() - began
        self._due = began + max(self._every, taken / _MOST_SHARE)

    def remove(self) -> None:
        """Remove what was written, once the table of all images is there."""
        for name in _NAMES:
            (self._out / name).unlink(missing_ok=True)
