"""What a run writes once every image is done: Table 3, or a submission, and the record that repeats the run."""

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
from ensemble_eval.scoring.table3 import SHOWN, Gain, Row, gain, table3, table3_table
from ensemble_eval.store import record
from ensemble_eval.store.parts import read_parts
from ensemble_eval.store.store import Store, read_rows, summarise
from ensemble_eval.tables.formats import table_csv
from ensemble_eval.tables.table import Table, marked, marks

# In a submission, for an image that could not be read. A line that was left out would move all that follow.
_NO_ANSWER = "-1 -1 -1 -1 -1"


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


def finish_run(store: Store[RunKey], start: record.Record) -> Outcome:
    """Write the three files that a run leaves beside its parts.

    Args:
        store: The parts, each image once, as of the last reading.
        start: What only the start of the run knows; see `record.of_start`.

    Raises:
        InputError: Not one image could be read, or the folder takes no files.
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
    # Only at the end of a run: it takes a while to import what reads the rows.
    from ensemble_eval.evaluation.decisions import read_decisions

    images, facts = sorted(progress.done), {**_facts(key, start), **record.counts(progress), "key": key.to_json()}
    if not key.scope.labelled:
        counted = key.counted()
        record.write(out, RUN, {**facts, "counted": counted, "one_model_member": None, "gain": None})
        write_atomically(out / SUBMISSION_FILE, _submission(store, images).encode())
        return Outcome([], None, "", unreadable, progress.passes, saved, out / SUBMISSION_FILE, counted)
    decisions = read_decisions(store.tables, key, images, with_answers=False)
    rows, best = table3(decisions), decisions.one_model_member
    counted = key.counted(len(set(decisions.labels.tolist())))
    # A single row has nothing to be compared to but itself.
    improvement = gain(decisions) if len(rows) > 1 else None
    compared = None if improvement is None else gain_record(improvement, rows)
    # The record first: a table that nobody can attribute would be refused by the next start.
    record.write(out, RUN, {**facts, "counted": counted, "one_model_member": best, "gain": compared})
    write_atomically(out / TABLE_FILE, table_csv(table3_table(rows)).encode())
    return Outcome(rows, improvement, best, unreadable, progress.passes, saved, out / TABLE_FILE, counted)


def partial_table(out: Path) -> Table | None:
    """Table 3 of the images that are stored so far; None while there are none, and where they have no labels.

    Only the ends of the parts and the columns of the ranks are read, so parts may be added meanwhile.

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
        # The end of a part may be whole and its rows not. The next start of the run finds out which it is.
        raise EnsembleEvalError(f"a part in {out} is damaged; the next start does its images again") from error
    missing = key.images - len(progress.accounted)
    counted = key.counted(None if missing else len(set(decisions.labels.tolist())))
    table = table3_table(table3(decisions), "partial", [decisions.one_model_note]).only(*SHOWN)
    return marked(table, marks(missing, key.images, counted))


def _facts(key: RunKey, start: record.Record) -> record.Record:
    """Of `run.json`: everything needed to repeat the run."""
    return {
        **start,
        "versions": record.versions(),
        "precision": key.precision,
        "backend": key.backend,
        "weights_sha256": {member.name: member.weights for member in key.members},
        "dataset_sha256": key.dataset,
    }


def _submission(store: Store[RunKey], images: Sequence[str]) -> str:
    """What an ensemble answers for images without labels: five classes, best first, a line for each image by id.

    Classes are indices from 0 in the order of the ensemble's classes, which for imagenet-1k is that of the sorted
    WNIDs. They are not the ids of ILSVRC's development kit.
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
