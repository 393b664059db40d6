"""What repeats a run, and whose output folder it is."""

import contextlib
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ensemble_eval import files
from ensemble_eval.errors import InputError
from ensemble_eval.results.key import AnotherRunError, RunKey

# What `run.json` holds, as JSON.
Record = Mapping[str, Any]
RECORD_FILE = "run.json"
TABLE_FILE = "table3.csv"
UNREADABLE_FILE = "unreadable.csv"
SUBMISSION_FILE = "submission.txt"
# Nobody is at one of these for this long.
_LEFTOVER_SECONDS = 3600.0
_PACKAGES = ("ensemble-eval", "torch", "torchvision", "pillow", "numpy", "pandas", "pyarrow", "openvino")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers come from, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def of_start(
    *, arguments: Mapping[str, Any], manifest_sha256: str | None, ignored_files: Sequence[str], layout: str
) -> Record:
    """The part of `run.json` that only the start of a run knows; its stored parts do not hold it.

    Args:
        arguments: of the command, by name.
        manifest_sha256: of the file; None if the ensemble is a folder of checkpoints.
        ignored_files: below the data set that took no part.
        layout: what the data set was recognised as.
    """
    return {
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        "manifest_sha256": manifest_sha256,
        "ignored_files": list(ignored_files),
        "layout": layout,
    }


def start_in(records: Iterable[Record]) -> Record:
    """What `of_start` said in the first of some records that has it; null, field by field, if none has.

    Args:
        records: of one run, best first.
    """
    known = next((record for record in records if record.get("arguments") is not None), {})
    return {name: known.get(name) for name in ("arguments", "manifest_sha256", "ignored_files", "layout")}


def facts(key: RunKey, start: Record) -> Record:
    """Of `run.json`: everything needed to repeat the run.

    Args:
        key: of the run.
        start: see `of_start` and `start_in`.
    """
    return {
        "arguments": start["arguments"],
        "versions": versions(),
        "precision": key.precision,
        "backend": key.backend,
        "manifest_sha256": start["manifest_sha256"],
        "weights_sha256": {member.name: member.weights for member in key.members},
        "dataset_sha256": key.dataset,
        "ignored_files": start["ignored_files"],
        "layout": start["layout"],
        "counted": list(key.counted()),
    }


def last_file(key: RunKey) -> str:
    """What a run writes last: its table, or of images without labels its submission."""
    return TABLE_FILE if key.scope.labelled else SUBMISSION_FILE


def read(out: Path) -> Record | None:
    """The record that a finished run left in its folder; None if there is none.

    Raises:
        InputError: there is one that cannot be read.
    """
    path = out / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record: Record = json.loads(path.read_text())
        stored_key(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not readable; "
            f"remove it and {TABLE_FILE}, which the parts give again, or choose another folder"
        ) from error
    return record


def read_of_run(out: Path, key: RunKey) -> Record | None:
    """As `read`, in a folder whose parts are of the run of a key.

    Raises:
        InputError: the record cannot be read, or is of another run.
    """
    record = read(out)
    if record and (difference := stored_key(record).difference(key)):
        raise InputError(
            f"{out} has a {RECORD_FILE} and parts of different runs ({difference}); "
            "it was not written by this tool alone"
        )
    return record


def stored_key(record: Record) -> RunKey:
    """The key of the run that left a record."""
    devices = (execution["device"] for execution in record.get("executions", ()))
    return RunKey.from_json(record["key"], devices)


def refuse_foreign(out: Path, key: RunKey) -> None:
    """Refuse an output folder whose tables were written by another run, or by something else.

    Args:
        out: the folder.
        key: of this run.

    Raises:
        InputError: what is there is not this run's.
    """
    if record := read(out):
        theirs = stored_key(record)
        if theirs != key:
            raise AnotherRunError(out, theirs, key)
    elif (out / TABLE_FILE).exists():
        raise InputError(
            f"{out} holds a {TABLE_FILE} without its {RECORD_FILE}; choose another `out`, or run with `fresh=True`"
        )


def refuse_file(out: Path) -> None:
    """Refuse an output folder that is no folder."""
    if out.exists() and not out.is_dir():
        raise InputError(f"`out` {out} is a file; choose a folder")


def remove_leftovers(out: Path) -> None:
    """Remove what a process left that was killed while it wrote one of these files."""
    for name in (RECORD_FILE, TABLE_FILE, UNREADABLE_FILE, SUBMISSION_FILE):
        files.remove_leftovers(out, f"{name}.", time.time() - _LEFTOVER_SECONDS)


def clear(out: Path) -> None:
    """Remove the files that a run writes at its end."""
    for name in (RECORD_FILE, TABLE_FILE, UNREADABLE_FILE, SUBMISSION_FILE):
        (out / name).unlink(missing_ok=True)
