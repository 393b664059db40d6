"""The output folder of a run: what is done, what is missing, and the tables once nothing is."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_eval.datasets.items import Dataset
from ensemble_eval.datasets.listing import changes_since, write_listing
from ensemble_eval.errors import EnsembleEvalError, InputError, first_names
from ensemble_eval.files import require_could_be_written, write_atomically
from ensemble_eval.reports import text as report_text
from ensemble_eval.results import run_record
from ensemble_eval.results.in_use import in_use
from ensemble_eval.results.key import AnotherRunError, RunKey
from ensemble_eval.results.parts import PREDICTIONS_FOLDER
from ensemble_eval.results.store import Progress, Store
from ensemble_eval.results.submission import submission_of
from ensemble_eval.scoring.table3 import Gain, Row, gain, one_model_member, table3

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """What a finished run found. As text it is one line about the last row of its table.

    Attributes:
        rows: Rows of Table 3, models ascending, then crops; none for images without labels.
        gain: How the last row's top-5 error compares to the first's; None where there is but one row.
        one_model_member: The member whose rows stand for one model; empty for images without labels.
        unreadable: The images that could not be read, and why. They are not counted.
        passes: How many crops went through members.
        passes_saved: How many more there would have been in a run that does not stop when decided.
        table: The path of `table3.csv`, or of `submission.txt` for images without labels; the other results lie
            beside it.
        counted: What the errors are counted over, in one phrase each where that is not the usual.
    """

    rows: list[Row]
    gain: Gain | None
    one_model_member: str
    unreadable: Mapping[str, str]
    passes: int
    passes_saved: int
    table: Path
    counted: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.rows:
            return f"the images have no labels; what was predicted was written to {self.table}"
        last = self.rows[-1]
        unreadable = f", {len(self.unreadable)} more unreadable" if self.unreadable else ""
        return (
            f"{last.top5_error:.2f}% top-5 error with {last.models} models × {last.crops} crops "
            f"on {last.images} images{unreadable}; written to {self.table}"
        )


class RunFolder:
    """The output folder of one run.

    Args:
        out: the folder; it need not exist yet.
        key: what the stored predictions depend on.
        dataset: the images.
        start: what `run.json` says of how the run was asked for.

    Attributes:
        progress: as of the last reading of the parts.
    """

    def __init__(self, out: Path, key: RunKey, dataset: Dataset, start: run_record.Record) -> None:
        self.out = out
        self.images = tuple(item.id for item in dataset.items)
        self.blocks = dataset.blocks
        self._dataset = dataset
        self.members: tuple[str, ...] = key.member_names
        self._key = key
        self._start = start
        self.store = Store(out, key)
        self.progress = Progress(frozenset(), {}, 0, 0, 0.0)

    @contextlib.contextmanager
    def opened(self, *, fresh: bool, checked: bool = False) -> Iterator[None]:
        """As `open`; within the block other processes can tell that this one is at work here.

        Raises:
            InputError: as `open`; or another process is at work here, and `fresh` would discard what it writes.
        """
        run_record.refuse_file(self.out)
        if not fresh:
            self.refuse_foreign()
        with in_use(self.out, alone=fresh):
            self.open(fresh=fresh, checked=checked)
            yield

    def open(self, *, fresh: bool, checked: bool = False) -> None:
        """Read what is done, or forget it.

        Args:
            fresh: forget it.
            checked: the process that started this one has just read every byte of the parts.

        Raises:
            InputError: the folder belongs to another run, or takes no files.
        """
        if fresh:
            run_record.refuse_file(self.out)
            run_record.clear(self.out)
            self.store.clear()
        self.refuse_foreign()
        with self._naming_changed_images():
            self.progress = self.store.peek() if checked else self.store.open()
        write_listing(self.out / PREDICTIONS_FOLDER, self._dataset)

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds the tables of another run, or that is none; nothing is written.

        Raises:
            InputError: it names the difference.
        """
        run_record.refuse_file(self.out)
        with self._naming_changed_images():
            run_record.refuse_foreign(self.out, self._key)

    def refuse_unwritable(self) -> None:
        """Refuse a folder that takes no files; nothing is left behind, not even the folder.

        Raises:
            InputError: it is read-only, full, or could not be made.
        """
        require_could_be_written(self.out / PREDICTIONS_FOLDER)

    @contextlib.contextmanager
    def _naming_changed_images(self) -> Iterator[None]:
        """Of a data set that changed since the folder's run, say some of the images rather than its hash."""
        try:
            yield
        except AnotherRunError as error:
            changes = changes_since(self.out / PREDICTIONS_FOLDER, error.theirs.dataset, self._dataset)
            if changes is None:
                raise
            raise AnotherRunError(self.out, error.theirs, self._key, {"dataset": changes}) from error

    @property
    def is_complete(self) -> bool:
        """Whether every image is done; one that was unreadable is tried again."""
        return all(image in self.progress.done for image in self.images)

    def finish(self) -> Outcome:
        """Write `table3.csv`, `unreadable.csv` and `run.json` from the stored parts, every byte of them checked.

        Raises:
            InputError: not one image could be read.
            EnsembleEvalError: images are missing, or another run changes the folder; no table is written.
        """
        self.progress = self.store.open_each_once()
        self._require_complete()
        self.store.remove_leftovers()
        run_record.remove_leftovers(self.out)
        progress = self.progress
        record = {**run_record.facts(self._key, self._start), **counts(progress), "key": self._key.to_json()}
        return write_tables(self.out, self.store, progress, self.members, record)

    def _require_complete(self) -> None:
        accounted = self.progress.accounted
        missing = [image for image in self.images if image not in accounted]
        if missing:
            raise EnsembleEvalError(
                f"{len(missing)} of {len(self.images)} images are not evaluated yet "
                f"({first_names(missing)}), so no table is written; run the same command again"
            )
        if extra := accounted.difference(self.images):
            raise EnsembleEvalError(
                f"{len(extra)} images in the results are not in the data set ({min(extra)}, …)"
            )


def counts(progress: Progress) -> dict[str, Any]:
    """Of `run.json`: what the run did and cost, and what ran it, over all its restarts and processes."""
    return {
        "images": len(progress.done),
        "unreadable_images": len(progress.unreadable),
        "passes": progress.passes,
        "passes_saved": progress.all_passes - progress.passes,
        "seconds": round(progress.seconds, 3),
        "executions": [asdict(execution) for execution in progress.executions],
    }


def write_tables(
    out: Path, store: Store, progress: Progress, members: Sequence[str], record: Mapping[str, Any]
) -> Outcome:
    """Write the three files that a run leaves beside its parts.

    Raises:
        InputError: not one image could be read, or the folder takes no files.
        EnsembleEvalError: the parts do not hold each image once.
    """
    unreadable = progress.unreadable
    write_atomically(out / run_record.UNREADABLE_FILE, report_text.unreadable_csv(unreadable.items()).encode())
    if not progress.done:
        raise InputError(f"none of the images could be read; {out / run_record.UNREADABLE_FILE} says why")
    saved = progress.all_passes - progress.passes
    predictions = store.outcomes()
    counted = store.key.counted(predictions["label"].nunique())
    record = {**record, "counted": counted}
    _require_each_once(predictions, progress)
    if not store.key.scope.labelled:
        submission = out / run_record.SUBMISSION_FILE
        text = json.dumps({**record, "one_model_member": None, "gain": None}, indent=2) + "\n"
        write_atomically(out / run_record.RECORD_FILE, text.encode())
        write_atomically(submission, submission_of(store, members, unreadable).encode())
        return Outcome([], None, "", unreadable, progress.passes, saved, submission, counted)
    rows = table3(predictions, members)
    best = one_model_member(predictions, members)
    # A single row has nothing to be compared to but itself.
    improvement = gain(predictions, members) if len(rows) > 1 else None
    compared = None if improvement is None else gain_record(improvement, rows)
    text = json.dumps({**record, "one_model_member": best, "gain": compared}, indent=2) + "\n"
    # The record first: a table that nobody can attribute would be refused by the next start.
    write_atomically(out / run_record.RECORD_FILE, text.encode())
    table = out / run_record.TABLE_FILE
    write_atomically(table, report_text.table3_csv(rows).encode())
    return Outcome(rows, improvement, best, unreadable, progress.passes, saved, table, counted)


def gain_record(gain: Gain, rows: Sequence[Row]) -> dict[str, Any]:
    """A gain for `run.json`: differences and bounds in percentage points of top-5 error, negative when better.

    Args:
        gain: of the last row over the first.
        rows: of Table 3.
    """
    return {
        "base": {"models": rows[0].models, "crops": rows[0].crops},
        "compared": {"models": rows[-1].models, "crops": rows[-1].crops},
        "top5_difference": gain.difference,
        "top5_difference_low": gain.low,
        "top5_difference_high": gain.high,
        "top5_difference_percent_of_base": gain.relative,
    }


def _require_each_once(predictions: "pd.DataFrame", progress: Progress) -> None:
    """The last check before a table: each member and scheme has each image that is done, once."""
    for (member, crops), rows in predictions.groupby(["member", "crops"])["image"]:
        if len(rows) != len(progress.done) or set(rows) != progress.done:
            raise EnsembleEvalError(
                f"the stored predictions of {member} with {crops} crops do not hold each of {len(progress.done)} "
                "images exactly once, so no table is written; is another run at work in the same folder?"
            )
