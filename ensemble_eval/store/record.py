"""The record of a finished job: its key, its arguments, its versions and its cost."""

import contextlib
import json
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ensemble_eval import files
from ensemble_eval.errors import InputError
from ensemble_eval.store.key import OtherKeyError
from ensemble_eval.store.parts import Format, KeyT
from ensemble_eval.store.store import ABANDONED_SECONDS, Progress

# The JSON object in the file of a record.
Record = Mapping[str, Any]
_PACKAGES = ("ensemble-eval", "torch", "torchvision", "pillow", "numpy", "pandas", "pyarrow", "openvino")
# What only the start of a job knows; its parts do not hold it.
_START = ("arguments", "manifest_sha256", "ignored_files", "layout")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that the results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def as_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Convert paths among some arguments to text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}


def start_in(records: Iterable[Record]) -> Record:
    """Return the entries from the start of a job, from the first record that has them, or None for each."""
    known = next((record for record in records if record.get("arguments") is not None), {})
    return {name: known.get(name) for name in _START}


def counts(progress: Progress) -> dict[str, Any]:
    """Return the counts, the cost and the executions of a job, over all its starts and processes."""
    return {
        "images": len(progress.done),
        "unreadable_images": len(progress.unreadable),
        "passes": progress.passes,
        "passes_saved": progress.all_passes - progress.passes,
        "seconds": round(progress.seconds, 3),
        "executions": [asdict(execution) for execution in progress.executions],
    }


def read(out: Path, form: Format[Any]) -> Record | None:
    """Read the record of a finished job; None if there is none.

    Raises:
        InputError: It cannot be read.
    """
    path = out / form.record
    if not form.record or not path.is_file():
        return None
    try:
        record: Record = json.loads(path.read_text())
        stored_key(record, form)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        written = " and ".join(["it", *form.outputs[:1]])
        raise InputError(
            f"{path} is not readable, or an earlier version of ensemble-eval wrote it; remove {written}, which "
            "the parts give again, or choose another folder"
        ) from error
    return record


def read_of_key(out: Path, form: Format[KeyT], key: KeyT) -> Record | None:
    """As `read`, but refuse a record whose key is not that of the parts in the folder.

    Raises:
        InputError: The record cannot be read, or has another key.
    """
    record = read(out, form)
    if record and (difference := stored_key(record, form).difference(key)):
        raise InputError(
            f"{out} has a {form.record} and parts of different runs ({difference}); "
            "it was not written by this tool alone"
        )
    return record


def stored_key(record: Record, form: Format[KeyT]) -> KeyT:
    """Return the key in a record."""
    return form.key.from_json(record["key"])


def write(out: Path, form: Format[Any], record: Record) -> None:
    """Write a record, as a whole or not at all."""
    files.write_atomically(out / form.record, (json.dumps(record, indent=2) + "\n").encode())


def refuse_foreign(out: Path, form: Format[KeyT], key: KeyT) -> None:
    """Refuse an output folder whose tables do not belong to a job with this key.

    Raises:
        InputError: The message names the difference.
    """
    refuse_file(out)
    record = read(out, form)
    if record:
        theirs = stored_key(record, form)
        if theirs != key:
            raise OtherKeyError(out, theirs, key)
    for name in form.outputs[:1]:
        if not record and (out / name).exists():
            raise InputError(
                f"{out} holds a {name} without its {form.record}; choose another `out`, or run with `fresh=True`"
            )


def refuse_file(out: Path) -> None:
    """Refuse an output path that is not a folder."""
    # In a bucket, a folder comes and goes with the objects that other processes write and remove.
    if out.is_file():
        raise InputError(f"`out` {out} is a file; choose a folder")


def remove_leftovers(out: Path, form: Format[Any]) -> None:
    """Remove temporary files of processes that were killed while they wrote a table or the record."""
    for name in filter(None, (form.record, *form.outputs)):
        path = out / name
        files.remove_leftovers(path.parent, f"{path.name}.", time.time() - ABANDONED_SECONDS)


def clear(out: Path, form: Format[Any]) -> None:
    """Remove the record and the tables of a job."""
    for name in filter(None, (form.record, *form.outputs)):
        (out / name).unlink(missing_ok=True)
