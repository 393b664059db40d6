"""The parts of a store: Parquet files with rows, each named by the hash of its bytes.

The metadata of a file holds the key of the job, the images that the file accounts for, and their cost. The files
alone are enough to tell how much of the job is done.
"""

import functools
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

import numpy as np

from ensemble_eval.errors import InputError
from ensemble_eval.files import open_regular
from ensemble_eval.locations import ObjectPath
from ensemble_eval.store.key import Key, OtherKeyError

if TYPE_CHECKING:
    import pyarrow as pa

KeyT = TypeVar("KeyT", bound=Key)

# The column of the image's id, which every schema has.
IMAGE = "image"
_PART_NAME = re.compile(r"part-[0-9a-f]{32}\.parquet")
_METADATA_KEY = b"ensemble_eval"
# Requests to a bucket at once.
_THREADS = 16


@dataclass(frozen=True)
class Format(Generic[KeyT]):
    """The layout of the output folder of one kind of job.

    Attributes:
        folder: The folder of the parts, below the output folder.
        key: The class of the job's key.
        schema: A function that returns the columns of the rows, including `image`, for a key.
        by_image: Whether each image has its own row group, so that its rows can be read without the others.
        record: The JSON file with the arguments and versions of the job; empty if several jobs share the folder.
        outputs: The other files that a finished job writes, tables first.
    """

    folder: str
    key: type[KeyT]
    schema: "Callable[[KeyT], pa.Schema]"
    by_image: bool = False
    record: str = ""
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Execution:
    """The hardware and software that computed some images. They may differ between starts and processes of a job.

    Attributes:
        device: The device, as torch names it.
        device_name: The name of the hardware.
        batch_size: Crops per batch, after any halving for lack of memory.
        threads: Threads of torch on the CPU.
        ranks: Processes of that start.
        versions: Versions of Python and of the packages that can affect the results, by name.
    """

    device: str
    device_name: str
    batch_size: int
    threads: int
    ranks: int
    versions: Mapping[str, str]


@dataclass
class Part:
    """One part. Its rows are filled in while it is collected, and left out when it is read back.

    Attributes:
        rows: The rows, image by image.
        images: Ids of the images with rows, in the order of the rows.
        unreadable: Why each image without rows could not be read, by image id.
        passes: The number of passes that were run; a pass is one crop through one member.
        all_passes: Passes that a run without early exit would have taken.
        seconds: Seconds that the process spent on this part.
        written: When it was written, in seconds since 1970.
        executions: The executions that computed it; several if the batch size was halved meanwhile.
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
class Parts(Generic[KeyT]):
    """The parts of one folder, all of the same job, without their rows.

    Attributes:
        key: The key of the job; None if no part was read.
        by_name: The parts without their rows, by file name, ascending.
        damaged: Files whose bytes have changed since they were written.
        unread: Files that the file system cannot read at the moment, with its reason.
    """

    key: KeyT | None
    by_name: Mapping[str, Part]
    damaged: tuple[Path, ...]
    unread: Mapping[Path, str]


# The key and the part without its rows; None if the part is damaged.
Described = tuple[KeyT, Part] | None


def part_name(data: bytes) -> str:
    """The name that a part's bytes must have."""
    return f"part-{hashlib.sha256(data).hexdigest()[:32]}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """The parts in a folder, by name."""
    return sorted(path for path in folder.glob("part-*.parquet") if _PART_NAME.fullmatch(path.name))


def encode(part: Part, form: Format[KeyT], key: KeyT) -> bytes:
    """The bytes of a part's file."""
    import pyarrow as pa

    schema = form.schema(key)
    columns = [_column([row.get(column.name) for row in part.rows], column.type) for column in schema]
    return encode_table(pa.table(columns, schema=schema), part, form, key)


def encode_table(rows: "pa.Table", part: Part, form: Format[KeyT], key: KeyT) -> bytes:
    """The bytes of a file with these rows and the part's description; the part's own rows are ignored."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # `asdict` copies everything, so the rows are removed first.
    description = asdict(replace(part, rows=[]))
    del description["rows"]
    metadata = {_METADATA_KEY: json.dumps({"key": key.to_json(), **description}).encode()}
    rows, buffer = rows.replace_schema_metadata(metadata), pa.BufferOutputStream()
    # Statistics of a row group of one image are useless, and take more space than its rows.
    options = {"compression": "zstd", "write_statistics": not form.by_image, "write_page_checksum": form.by_image}
    with pq.ParquetWriter(buffer, rows.schema, **options) as writer:
        for group in _row_groups(rows) if form.by_image else [rows]:
            writer.write_table(group)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def _row_groups(rows: "pa.Table") -> Iterator["pa.Table"]:
    """Split the rows into one table per image."""
    first = 0
    for _, of_image in itertools.groupby(rows[IMAGE].to_pylist()):
        count = len(list(of_image))
        yield rows.slice(first, count)
        first += count


def _column(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """One column. Lists are joined with NumPy, three times as fast as pyarrow converts Python objects."""
    import pyarrow as pa

    if not pa.types.is_list(kind) or not values or any(value is None for value in values):
        return pa.array(values, kind)
    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    joined = np.concatenate(values).astype(kind.value_type.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(joined))


def read_parts(
    out: Path,
    form: Format[KeyT],
    key: KeyT | None = None,
    *,
    whole: bool = True,
    known: Container[str] = frozenset(),
) -> Parts[KeyT]:
    """Read the metadata of the parts in an output folder, and check that all belong to one job.

    Other processes may write, rewrite and set aside parts at the same time.

    Args:
        out: The output folder.
        form: How the job's results lie in it.
        key: The key that the parts must have; None to accept any key that they all share.
        whole: Read every byte and compare the hash with the file's name. Also refuse Parquet files that are no
            parts, because pandas would read them along with the parts. Otherwise only the footers are read, which
            is cheap, and unreadable files are reported instead of refused.
        known: Names of parts to skip.

    Raises:
        InputError: A file cannot be read or was not written by this tool, or parts have another key; the
            difference is named.
    """
    folder = out / form.folder
    if whole:
        _refuse_foreign_files(folder)
    keys, parts, damaged, unread = dict[str, KeyT](), dict[str, Part](), list[Path](), dict[Path, str]()
    read = functools.partial(_read_whole if whole else _read_footer, form=form)
    for path, described in _in_threads(read, [path for path in part_paths(folder) if path.name not in known]):
        if isinstance(described, FileNotFoundError):
            # Another process has rewritten it, or set it aside.
            continue
        if isinstance(described, OSError):
            unread[path] = described.strerror or str(described)
        elif described is None:
            damaged.append(path)
        else:
            keys[path.name], parts[path.name] = described
    found = Parts(_common_key(out, keys, key), parts, tuple(damaged), unread)
    if whole:
        refuse_unread(found)
    return found


def _in_threads(
    read: Callable[[Path], Described[KeyT]], paths: Sequence[Path]
) -> Iterator[tuple[Path, Described[KeyT] | OSError]]:
    """Read files, several at once if they are in a bucket, and yield the result or the error of each."""

    def attempt(path: Path) -> Described[KeyT] | OSError:
        try:
            return read(path)
        except OSError as error:
            return error

    if not paths or not isinstance(paths[0], ObjectPath):
        yield from ((path, attempt(path)) for path in paths)
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from zip(paths, threads.map(attempt, paths), strict=True)


def refuse_unread(parts: Parts[Any]) -> None:
    """Refuse a folder with a part that the file system cannot read.

    Raises:
        InputError: The message names the part.
    """
    for path, reason in parts.unread.items():
        raise InputError(f"{path} cannot be read ({reason}); repair it or choose another `out`")


def require_key(out: Path, parts: Parts[KeyT]) -> KeyT:
    """Return the key that the parts share.

    Raises:
        InputError: There is no part, or only damaged ones.
    """
    if parts.key is not None:
        return parts.key
    if parts.damaged:
        raise InputError(
            f"all {len(parts.damaged)} parts in {out} are damaged; the next start does their images again"
        )
    raise InputError(f"{out} holds no results yet; a run writes its first part within `save_every` seconds")


class _ForeignPartError(Exception):
    """A file has the name of a part but not its metadata."""


def _read_whole(path: Path, form: Format[KeyT]) -> Described[KeyT]:
    """Return the key and the part without its rows; None if the hash of its bytes is not the file's name."""
    data = path.read_bytes()
    if part_name(data) != path.name:
        return None
    try:
        return _describe(io.BytesIO(data), form)
    except _ForeignPartError as error:
        raise InputError(f"{path} was not written by this tool, or is damaged; choose another `out`") from error


def _read_footer(path: Path, form: Format[KeyT]) -> Described[KeyT]:
    with open_regular(path) as file:
        try:
            return _describe(file, form)
        except _ForeignPartError:
            return None


def _describe(file: BinaryIO, form: Format[KeyT]) -> tuple[KeyT, Part]:
    # Imported only if there is a part, because the import takes a quarter of a second.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        description = json.loads(pq.read_schema(file).metadata[_METADATA_KEY])
        # Raises KeyError for parts of early versions, whose counts had another meaning.
        _ = description["all_passes"]
        key = form.key.from_json(description.pop("key"))
        executions = [_execution(json.dumps(each)) for each in description.pop("executions")]
        return key, Part(rows=[], executions=executions, **description)
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        # pyarrow raises an OSError without `errno` for a footer that it cannot parse; errors of the disk have one.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _ForeignPartError from error


@functools.lru_cache(maxsize=256)
def _execution(text: str) -> Execution:
    """Parse an execution. A job has many thousands of parts and few executions, so equal ones are shared."""
    return Execution(**json.loads(text))


def _common_key(out: Path, keys: Mapping[str, KeyT], expected: KeyT | None) -> KeyT | None:
    """Return the key that all parts share.

    Raises:
        InputError: The parts are of several jobs, or not of the expected one.
    """
    common = expected or next(iter(keys.values()), None)
    for key in keys.values():
        if common is None or key == common:
            continue
        if expected is None:
            raise InputError(
                f"{out} holds parts of several runs ({key.difference(common)}); "
                "it was not written by this tool alone"
            )
        raise OtherKeyError(out, key, common)
    return common


def foreign_files(folder: Path) -> list[Path]:
    """The Parquet files in a folder that are no parts of this version; pandas would read them with the parts."""
    # The folder is listed once, because another process may add a part between two listings.
    found = sorted(folder.glob("*.parquet"))
    return [path for path in found if not (_PART_NAME.fullmatch(path.name) or path.name.startswith((".", "_")))]


def _refuse_foreign_files(folder: Path) -> None:
    for path in foreign_files(folder):
        raise InputError(
            f"{path} was not written by this version of ensemble-eval; choose another `out`, or start over "
            "with `fresh=True`"
        )
