"""What identifies a run, what repeats it, and whose output folder it is."""

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
from ensemble_eval.datasets.items import Dataset
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Ensemble
from ensemble_eval.results.key import Difference, key_difference

# What `run.json` holds, as JSON.
Record = Mapping[str, Any]
RECORD_FILE = "run.json"
TABLE_FILE = "table3.csv"
UNREADABLE_FILE = "unreadable.csv"
# Nobody is at one of these for this long.
_LEFTOVER_SECONDS = 3600.0
_PACKAGES = ("ensemble-eval", "torch", "torchvision", "pillow", "numpy", "pandas", "pyarrow", "openvino")


def run_key(
    ensemble: Ensemble,
    weights_sha256: Mapping[str, str],
    dataset: Dataset,
    *,
    crops: int,
    precision: str,
    backend: str,
    with_scores: bool,
    decides: Sequence[int],
) -> dict[str, Any]:
    """Everything that the stored predictions depend on, flat, so that a difference can be named."""
    key: dict[str, Any] = {
        "crops": crops,
        "precision": precision,
        "backend": backend,
        "scores": with_scores,
        "until_decided": [f"top-{k}" for k in decides],
        "interpolation": ensemble.interpolation,
        "classes": ensemble.classes.count,
        "dataset": dataset.sha256,
        "images": len(dataset.items),
        "members": [member.name for member in ensemble.members],
    }
    for member in ensemble.members:
        description = {
            "weights": weights_sha256[member.name],
            "arch": member.arch,
            "options": dict(member.options),
            "input": asdict(member.input),
        }
        key[f"member {member.name}"] = description
    return key


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers come from, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def of_start(*, arguments: Mapping[str, Any], manifest_sha256: str | None, ignored_files: Sequence[str]) -> Record:
    """The part of `run.json` that only the start of a run knows; its stored parts do not hold it.

    Args:
        arguments: of the command, by name.
        manifest_sha256: of the file; None if the ensemble is a folder of checkpoints.
        ignored_files: below the data set that took no part.
    """
    return {
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        "manifest_sha256": manifest_sha256,
        "ignored_files": list(ignored_files),
    }


def start_in(records: Iterable[Record]) -> Record:
    """What `of_start` said in the first of some records that has it; null, field by field, if none has.

    Args:
        records: of one run, best first.
    """
    known = next((record for record in records if record.get("arguments") is not None), {})
    return {name: known.get(name) for name in ("arguments", "manifest_sha256", "ignored_files")}


def facts(key: Mapping[str, Any], start: Record) -> Record:
    """Of `run.json`: everything needed to repeat the run.

    Args:
        key: of the run; see `run_key`.
        start: see `of_start` and `start_in`.
    """
    return {
        "arguments": start["arguments"],
        "versions": versions(),
        "precision": key["precision"],
        "backend": key["backend"],
        "manifest_sha256": start["manifest_sha256"],
        "weights_sha256": {name: key[f"member {name}"]["weights"] for name in key["members"]},
        "dataset_sha256": key["dataset"],
        "ignored_files": start["ignored_files"],
    }


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
        _ = record["key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not readable; "
            f"remove it and {TABLE_FILE}, which the parts give again, or choose another folder"
        ) from error
    return record


def refuse_foreign(out: Path, key: Mapping[str, Any], difference: Difference = key_difference) -> None:
    """Refuse an output folder whose tables were written by another run, or by something else.

    Args:
        out: the folder.
        key: of this run.
        difference: says how another key differs.

    Raises:
        InputError: what is there is not this run's.
    """
    if record := read(out):
        theirs, ours = record["key"], json.loads(json.dumps(key))
        if theirs != ours:
            raise InputError(
                f"{out} belongs to another run ({difference(theirs, ours)}); "
                "choose another --out, or run with --fresh to start over there"
            )
    elif (out / TABLE_FILE).exists():
        raise InputError(
            f"{out} holds a {TABLE_FILE} without its {RECORD_FILE}; choose another --out, or run with --fresh"
        )


def refuse_file(out: Path) -> None:
    """Refuse an output folder that is no folder."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; choose a folder")


def remove_leftovers(out: Path) -> None:
    """Remove what a process left that was killed while it wrote one of these files."""
    for name in (RECORD_FILE, TABLE_FILE, UNREADABLE_FILE):
        files.remove_leftovers(out, f"{name}.", time.time() - _LEFTOVER_SECONDS)


def clear(out: Path) -> None:
    """Remove the files that a run writes at its end."""
    for name in (RECORD_FILE, TABLE_FILE, UNREADABLE_FILE):
        (out / name).unlink(missing_ok=True)
