"""The record of a finished job: what repeats it, and whose output folder it is."""

import contextlib
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ensemble_eval import files
from ensemble_eval.errors import InputError
from ensemble_eval.store.key import OtherKeyError
from ensemble_eval.store.parts import Format, KeyT
from ensemble_eval.store.store import ABANDONED_SECONDS, Progress

# What a record holds, as JSON.
Record = Mapping[str, Any]
_PACKAGES = ("ensemble-eval", "torch", "torchvision", "pillow", "numpy", "pandas", "pyarrow", "openvino")
_START = ("arguments", "manifest_sha256", "ignored_files", "layout")


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
    """The part of a record that only the start of a job knows; its stored parts do not hold it.

    Args:
        arguments: The command's arguments, by name.
        manifest_sha256: The hash of the manifest; None if the ensemble is a folder of checkpoints.
        ignored_files: Files below the data set that took no part.
        layout: What the data set was recognised as.
    """
    return {
        "arguments": as_json(arguments),
        "manifest_sha256": manifest_sha256,
        "ignored_files": list(ignored_files),
        "layout": layout,
    }


def as_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a record holds them: paths as text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}


def start_in(records: Iterable[Record]) -> Record:
    """What `of_start` said in the first of some records that has it; null, field by field, if none has."""
    known = next((record for record in records if record.get("arguments") is not None), {})
    return {name: known.get(name) for name in _START}


def counts(progress: Progress) -> dict[str, Any]:
    """What a job did and cost, and what ran it, over all its restarts and processes."""
    return {
        "images": len(progress.done),
        "unreadable_images": len(progress.unreadable),
        "passes": progress.passes,
        "passes_saved": progress.all_passes - progress.passes,
        "seconds": round(progress.seconds, 3),
        "executions": [asdict(execution) for execution in progress.executions],
    }


def read(out: Path, form: Format[Any]) -> Record | None:
    """The record that a finished job left in its folder; None if there is none.

    Raises:
        InputError: There is one that cannot be read.
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
    """As `read`, in a folder whose parts have a key.

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
    """The key of the job that left a record."""
    return form.key.from_json(record["key"])


def write(out: Path, form: Format[Any], record: Record) -> None:
    """Write a record, whole or not at all."""
    files.write_atomically(out / form.record, (json.dumps(record, indent=2) + "\n").encode())


def refuse_foreign(out: Path, form: Format[KeyT], key: KeyT) -> None:
    """Refuse an output folder whose tables were written by another job, or by something else.

    Raises:
        InputError: What is there does not belong to this key.
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
    """Refuse an output folder that is no folder."""
    if out.exists() and not out.is_dir():
        raise InputError(f"`out` {out} is a file; choose a folder")


def remove_leftovers(out: Path, form: Format[Any]) -> None:
    """Remove what a process left that was killed while it wrote one of the files beside the parts."""
    for name in filter(None, (form.record, *form.outputs)):
        path = out / name
        files.remove_leftovers(path.parent, f"{path.name}.", time.time() - ABANDONED_SECONDS)


def clear(out: Path, form: Format[Any]) -> None:
    """Remove the files that a job writes at its end."""
    for name in filter(None, (form.record, *form.outputs)):
        (out / name).unlink(missing_ok=True)
