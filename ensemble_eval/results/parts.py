"""The parts of the results: Parquet files with rows of predictions, each named by the hash of its bytes.

A file's metadata holds the key of the run, the images that it accounts for, and what it cost, so that a
reader who has nothing but the files knows where the run stands.
"""

import hashlib
import io
import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ensemble_eval.errors import InputError
from ensemble_eval.results.key import AnotherRunError, RunKey

PREDICTIONS_FOLDER = "predictions"
_PART_NAME = re.compile(r"part-[0-9a-f]{32}\.parquet")
METADATA_KEY = b"ensemble_eval"
# Of an image, in the last of its rows; null in the others.
CROP_RANK_COLUMNS = ("surface_ranks", "group_ranks", "rule_ranks")
# Null where a decision was not asked for and did not show by itself.
DECISION_COLUMNS = ("top5_correct", "top1_correct")


@dataclass(frozen=True)
class Execution:
    """What ran images: all of it that may differ between the starts of one run, or its processes.

    Attributes:
        device: as torch names it.
        device_name: what it is.
        batch_size: crops per batch, when the images were finished.
        threads: of torch on the CPU.
        ranks: processes of that start.
        versions: of Python and the packages that the numbers come from, by name.
    """

    device: str
    device_name: str
    batch_size: int
    threads: int
    ranks: int
    versions: Mapping[str, str]


@dataclass
class Part:
    """What one part holds, while it is being filled and after it was read (without its rows).

    Attributes:
        rows: predictions, as `prediction_rows` yields them.
        images: ids of the images that the rows are about.
        unreadable: reason by image id.
        passes: crops through members that were run for it.
        all_passes: how many a full run would have taken; the same, but for one that stops when decided.
        seconds: of work that it took.
        written: when, in seconds since 1970.
        executions: what ran it; several, if it began with batches that did not fit into memory.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    passes: int = 0
    all_passes: int = 0
    seconds: float = 0.0
    written: float = 0.0
    executions: list[Execution] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """What the parts of one folder say, all of one run.

    Attributes:
        key: of the run; None where no part was read.
        by_name: the parts without their rows, by file name, ascending.
        damaged: files whose bytes are not those that were written.
        unread: files that the file system does not give at the moment, with its reason.
    """

    key: RunKey | None
    by_name: Mapping[str, Part]
    damaged: tuple[Path, ...]
    unread: Mapping[Path, str]


def part_name(data: bytes) -> str:
    """The name that a part's bytes must have."""
    return f"part-{hashlib.sha256(data).hexdigest()[:32]}.parquet"


def part_paths(out: Path) -> list[Path]:
    """The parts in a run's output folder, by name."""
    paths = (out / PREDICTIONS_FOLDER).glob("part-*.parquet")
    return sorted(path for path in paths if _PART_NAME.fullmatch(path.name))


def read_parts(
    out: Path, key: RunKey | None = None, *, whole: bool = True, known: Container[str] = frozenset()
) -> Parts:
    """Read what the parts in a run's output folder say, without their rows, and check that they are of one run.

    Others may write, rewrite and set aside parts at the same time.

    Args:
        out: the output folder.
        key: of the run that they must be of; None for whichever run it is.
        whole: read every byte and compare it with the file's name, and refuse files that pandas would read along
            with the parts and that no run of ours wrote. Otherwise only the ends of the files are read: cheap,
            and nothing that cannot be read is an error.
        known: names of parts to pass over.

    Raises:
        InputError: a file cannot be read or was not written by this tool, or parts are of another run; the
            difference is named.
    """
    if whole:
        _refuse_strangers(out / PREDICTIONS_FOLDER)
    keys, parts, damaged, unread = dict[str, RunKey](), dict[str, Part](), list[Path](), dict[Path, str]()
    for path in part_paths(out):
        if path.name in known:
            continue
        try:
            described = _read_whole(path) if whole else _read_end(path)
        except FileNotFoundError:
            # Another process has rewritten it, or set it aside.
            continue
        except OSError as error:
            unread[path] = error.strerror or str(error)
            continue
        if described is None:
            damaged.append(path)
        else:
            keys[path.name], parts[path.name] = described
    found = Parts(_common_key(out, keys, parts, key), parts, tuple(damaged), unread)
    if whole:
        require_read(found)
    return found


def require_read(parts: Parts) -> None:
    """Refuse a folder of which the file system does not give a part.

    Raises:
        InputError: it names one.
    """
    for path, reason in parts.unread.items():
        raise InputError(f"{path} cannot be read ({reason}); mend it or choose another `out`")


def require_key(out: Path, parts: Parts) -> RunKey:
    """The key of the run that some parts are of.

    Raises:
        InputError: there is no part, or only damaged ones.
    """
    if parts.key is not None:
        return parts.key
    if parts.damaged:
        raise InputError(
            f"all {len(parts.damaged)} parts in {out} are damaged; the next start does their images again"
        )
    raise InputError(f"{out} holds no results yet; a run writes its first part within `save_every` seconds")


def outcome_columns(key: RunKey) -> list[str]:
    """The columns that the tables are made from."""
    outcomes = DECISION_COLUMNS if key.until_decided else ("rank",)
    return ["image", "member", "crops", *outcomes]


class _ForeignPartError(Exception):
    """A file with a part's name does not say what it holds."""


def _read_whole(path: Path) -> tuple[RunKey, Part] | None:
    """The key and the part, without rows; None where its bytes are not those that were written."""
    data = path.read_bytes()
    if part_name(data) != path.name:
        return None
    try:
        return _describe(io.BytesIO(data))
    except _ForeignPartError as error:
        raise InputError(f"{path} was not written by this tool, or is damaged; choose another `out`") from error


def _read_end(path: Path) -> tuple[RunKey, Part] | None:
    """As `_read_whole`, from the end of the file."""
    with path.open("rb") as file:
        try:
            return _describe(file)
        except _ForeignPartError:
            return None


def _describe(file: BinaryIO) -> tuple[RunKey, Part]:
    # Only where there is a part: a run that begins has none, and this takes a quarter of a second to import.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        description = json.loads(pq.read_schema(file).metadata[METADATA_KEY])
        # A part of an early version lacks this, and what it counts does not compare.
        _ = description["all_passes"]
        executions = [_execution(json.dumps(each)) for each in description.pop("executions", [])]
        key = RunKey.from_json(description.pop("key"), (execution.device for execution in executions))
        return key, Part(rows=[], executions=executions, **description)
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        # pyarrow's own OSError says that the file's end cannot be parsed; the disk's has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _ForeignPartError from error


@lru_cache(maxsize=256)
def _execution(text: str) -> Execution:
    """From JSON. A run has hundreds of thousands of parts and a handful of these, so equal ones are one object."""
    return Execution(**json.loads(text))


def _common_key(
    out: Path, keys: Mapping[str, RunKey], parts: Mapping[str, Part], expected: RunKey | None
) -> RunKey | None:
    """The key that all parts share.

    Raises:
        InputError: they are of several runs, or not of the one that was expected.
    """
    common = expected
    if common is None:
        # The first that says all of it: see `_key_within`.
        common = next((key for key in keys.values() if key.device_type), next(iter(keys.values()), None))
    for name, key in keys.items():
        if common is None or _key_within(common, key, parts[name]) == common:
            continue
        if expected is None:
            raise InputError(
                f"{out} holds parts of several runs ({key.difference(common)}); "
                "it was not written by this tool alone"
            )
        raise AnotherRunError(out, key, common)
    return common


def _key_within(common: RunKey, key: RunKey, part: Part) -> RunKey:
    """The key of a part; one without scores, stored before keys had a device type, has that of the others."""
    if key.device_type is None and not part.images:
        return replace(key, device_type=common.device_type)
    return key


def _refuse_strangers(predictions: Path) -> None:
    # One listing: between two, another process may add a part.
    for path in sorted(predictions.glob("*.parquet")):
        if not _PART_NAME.fullmatch(path.name) and not path.name.startswith((".", "_")):
            raise InputError(f"{path} was not written by this tool; choose another `out`")
