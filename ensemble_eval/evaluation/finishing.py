"""Writes the results of a finished run: Table 3 or a submission, the record, and the list of unreadable images."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.evaluation.key import (
    RUN,
    SUBMISSION_FILE,
    TABLE_FILE,
    UNREADABLE_FILE,
    RunKey,
)
from ensemble_eval.files import csv_text, write_atomically
from ensemble_eval.paper.published import NOTHING_PUBLISHED, Published
from ensemble_eval.scoring.table3 import SHOWN, Gain, Row, gain, table3, table3_table
from ensemble_eval.store import record
from ensemble_eval.store.parts import read_parts
from ensemble_eval.store.store import Store, read_rows, summarise
from ensemble_eval.tables.formats import Displayed, table_csv
from ensemble_eval.tables.table import Table, marked, marks

# The line of an unreadable image in a submission. Without it, all lines that follow would move.
_NO_ANSWER = "-1 -1 -1 -1 -1"

_NO_STOPPING = (
    "The intervals hold for a number of images that was fixed beforehand. If you watch them and stop when you "
    "like the result, they are wrong far more often. The images are evaluated in the order of their ids, so "
    "those that are done are not a random sample."
)


@dataclass(frozen=True, repr=False)
class Outcome(Displayed):
    """The results of a finished run. Converted to text, they are one line about the last row of Table 3.

    Attributes:
        rows: Rows of Table 3, models ascending, then crops; none for images without labels.
        gain: The difference between the top-5 errors of the last and the first row; None for a single row.
        one_model_member: The member that the rows of one model show; empty for images without labels.
        unreadable: The reason for each image that could not be read. Such images are not counted.
        passes: The number of passes.
        passes_saved: The number of passes that early exit saved.
        table: The path of `table3.csv`, or of `submission.txt` for images without labels. The other files are
            beside it.
        published: Published errors for the protocol and the architectures.
        counted: A phrase for each deviation from the usual images and classes; see `RunKey.counted`.
    """

    rows: list[Row]
    gain: Gain | None
    one_model_member: str
    unreadable: Mapping[str, str]
    passes: int
    passes_saved: int
    table: Path
    published: Published = NOTHING_PUBLISHED
    counted: tuple[str, ...] = ()

    def _facts(self) -> dict[str, object]:
        last = {} if not self.rows else {f"top5_error of {self.rows[-1]}": f"{self.rows[-1].top5_error:.2f}%"}
        counts = {"unreadable": len(self.unreadable), "passes": self.passes, "passes_saved": self.passes_saved}
        return {**last, **counts, "table": str(self.table)}

    def _tables(self) -> list[Table]:
        counted = marks(0, 0, self.counted)
        return [marked(table3_table(self.rows).only(*SHOWN), counted)] if self.rows else []

    def __str__(self) -> str:
        if not self.rows:
            return f"the images have no labels; what was predicted was written to {self.table}"
        last = self.rows[-1]
        unreadable = f", {len(self.unreadable)} more unreadable" if self.unreadable else ""
        return (
            f"{last.top5_error:.2f}% top-5 error with {last.models} models × {last.crops} crops "
            f"on {last.images} images{unreadable}; written to {self.table}"
        )


def finish_run(store: Store[RunKey], start: record.Record) -> Outcome:
    """Write the files of a finished run beside its parts.

    Args:
        store: The store, with each image in one part only.
        start: The entries of the record that only the start of the run knows.

    Raises:
        InputError: No image could be read, or the folder cannot be written.
        EnsembleEvalError: The parts do not hold each image once.
    """
    key, out, progress = store.key, store.out, store.progress
    unreadable = progress.unreadable
    write_atomically(
        out / UNREADABLE_FILE, csv_text(["image", "reason"], map(list, sorted(unreadable.items()))).encode()
    )
    if not progress.done:
        raise InputError(f"none of the images could be read; {out / UNREADABLE_FILE} says why")
    saved = progress.all_passes - progress.passes
    # Imported only at the end of a run, because the import takes a while.
    from ensemble_eval.evaluation.decisions import read_decisions

    images, facts = sorted(progress.done), {**_facts(key, start), **record.counts(progress), "key": key.to_json()}
    if not key.scope.labelled:
        counted = key.counted()
        record.write(out, RUN, {**facts, "counted": counted, "one_model_member": None, "gain": None})
        write_atomically(out / SUBMISSION_FILE, _submission(store, images).encode())
        return Outcome([], None, "", unreadable, progress.passes, saved, out / SUBMISSION_FILE, counted=counted)
    decisions = read_decisions(store.tables, key, images, with_answers=False)
    rows, best = table3(decisions), decisions.one_model_member
    counted = key.counted(len(set(decisions.labels.tolist())))
    # A single row has nothing to be compared with.
    improvement = gain(decisions) if len(rows) > 1 else None
    compared = None if improvement is None else gain_record(improvement, rows)
    # The record comes first, because the next start would refuse a table without one.
    record.write(out, RUN, {**facts, "counted": counted, "one_model_member": best, "gain": compared})
    write_atomically(out / TABLE_FILE, table_csv(table3_table(rows)).encode())
    return Outcome(
        rows, improvement, best, unreadable, progress.passes, saved, out / TABLE_FILE, key.published(best), counted
    )


def partial_table(out: Path) -> Table | None:
    """Compute Table 3 of the images that are stored so far; None without images or without labels.

    It reads only the footers of the parts and the columns of the ranks, and parts may be added meanwhile.

    Raises:
        InputError: The folder holds parts of several runs.
        EnsembleEvalError: A part was rewritten meanwhile, or its rows are damaged.
    """
    import pyarrow as pa

    from ensemble_eval.evaluation.decisions import read_decisions

    found = read_parts(out, RUN, whole=False)
    progress, key = summarise(found.by_name), found.key
    if key is None or not key.scope.labelled or not progress.done:
        return None
    tables = functools.partial(read_rows, out / RUN.folder, found.by_name)
    try:
        decisions = read_decisions(tables, key, sorted(progress.done), with_answers=False)
    except (pa.ArrowException, OSError) as error:
        # The footer may be intact and the rows damaged. The next start of the run finds out.
        raise EnsembleEvalError(f"a part in {out} is damaged; the next start does its images again") from error
    missing = key.images - len(progress.accounted)
    counted = key.counted(None if missing else len(set(decisions.labels.tolist())))
    notes = [decisions.one_model_note, *([_NO_STOPPING] if missing else [])]
    table = table3_table(table3(decisions), "partial", notes).only(*SHOWN)
    return marked(table, marks(missing, key.images, counted))


def _facts(key: RunKey, start: record.Record) -> record.Record:
    """Return the entries of `run.json` that are needed to repeat the run."""
    return {
        **start,
        "versions": record.versions(),
        "precision": key.precision,
        "backend": key.backend,
        "weights_sha256": {member.name: member.weights for member in key.members},
        "dataset_sha256": key.dataset,
    }


def _submission(store: Store[RunKey], images: Sequence[str]) -> str:
    """Return a line for each image, sorted by id, with the indices of its five best classes, the best first.

    Indices are from 0, in the order of the ensemble's classes. For imagenet-1k that is the order of the sorted
    WNIDs, not that of the ids in ILSVRC's development kit.
    """
    from ensemble_eval.evaluation.decisions import blocks

    answers = dict.fromkeys(store.progress.unreadable, _NO_ANSWER)
    for block in blocks(store.tables, store.key, images, ["top5"]):
        best = block.matrix("top5")[block.rows[-1, -1]]
        answers |= {
            images[place]: " ".join(map(str, five)) for place, five in zip(block.images, best, strict=True)
        }
    return "".join(f"{answers[image]}\n" for image in sorted(answers))


def gain_record(gain: Gain, rows: Sequence[Row]) -> dict[str, Any]:
    """Convert a gain for `run.json`: differences in percentage points of the top-5 error, negative if better.

    Args:
        gain: The gain of the last row over the first.
        rows: The rows of Table 3.
    """
    return {
        "base": {"models": rows[0].models, "crops": rows[0].crops},
        "compared": {"models": rows[-1].models, "crops": rows[-1].crops},
        "top5_difference": gain.difference,
        "top5_difference_low": gain.low,
        "top5_difference_high": gain.high,
        "top5_difference_percent_of_base": gain.relative,
    }
