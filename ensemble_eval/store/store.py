"""A crash-safe store of rows: a folder of parts that many processes may read and write at once.

A part is written under a temporary name, flushed, and renamed to the hash of its bytes. Opening the store
therefore detects truncated or changed parts, and their images are computed again. Processes never overwrite a part
with different data. Only `Store.clear` needs the folder to itself.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from ensemble_eval.datasets.listing import LISTING_PREFIX
from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.files import parquet_source, remove_leftovers, require_writable, write_atomically
from ensemble_eval.store.parts import (
    IMAGE,
    Execution,
    Format,
    KeyT,
    Part,
    encode,
    encode_table,
    part_name,
    part_paths,
    read_parts,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

# Readers of Parquet folders skip names that begin with an underscore.
_DAMAGED_PREFIX = "_damaged-"
# The key of the job in a bucket.
KEY_FILE = "_key.json"
# No process takes this long to write one file, so an older temporary file has been abandoned.
ABANDONED_SECONDS = 3600.0
# A part is written when it holds this many images, to limit what a crash costs.
_PART_IMAGES = 256
# Open files are limited because the metadata of a part with one row group per image takes a few hundred KiB.
_MAX_OPEN_FILES = 16


@dataclass(frozen=True)
class Progress:
    """The progress of a job, from all of its parts.

    Attributes:
        done: Ids of the images with rows.
        unreadable: The reason by id, for images without rows.
        passes: Passes run so far, including those for images that were computed twice.
        all_passes: Passes that the same images would have taken without early exit.
        seconds: Seconds of work so far, summed over all processes.
        damaged: Names of the parts that were set aside because their bytes had changed.
        repeated: Ids of the images with rows in more than one part.
        executions: The distinct descriptions of hardware and software, in the order of their first parts.
    """

    done: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    passes: int = 0
    all_passes: int = 0
    seconds: float = 0.0
    damaged: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    executions: tuple[Execution, ...] = ()

    @property
    def accounted(self) -> frozenset[str]:
        """Ids of the images that are done or were found unreadable."""
        return self.done | self.unreadable.keys()


class Store(Generic[KeyT]):
    """The parts of one job in its output folder.

    Args:
        out: The job's output folder; it need not exist yet.
        form: How the results are laid out in that folder.
        key: The key of the job; parts with another key are refused.
        clock: Returns the current time, in seconds since 1970.

    Attributes:
        progress: The progress when the parts were last read, by `open` or `peek`.
    """

    def __init__(
        self, out: Path, form: Format[KeyT], key: KeyT, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.out, self.form, self.key = out, form, key
        self.folder = out / form.folder
        self.progress = Progress()
        self._clock = clock
        self._known: dict[str, Part] = {}
        self._opened_with: frozenset[str] = frozenset()
        self._positions: dict[str, tuple[str, int]] = {}
        self._file = functools.lru_cache(_MAX_OPEN_FILES)(_opened_file)

    def open(self) -> Progress:
        """Read every byte of all parts, and set damaged parts aside under a name that readers skip.

        Raises:
            InputError: The folder belongs to another job, or cannot be read or written.
        """
        require_writable(self.folder)
        parts = read_parts(self.out, self.form, self.key)
        self._known, damaged = dict(parts.by_name), []
        for path in parts.damaged:
            # Another process may have set the part aside already.
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(_DAMAGED_PREFIX + path.name))
                damaged.append(path.name)
        self._opened_with = frozenset(self._known)
        self._positions.clear()
        self.progress = replace(summarise(self._known), damaged=tuple(damaged))
        return self.progress

    def open_deduplicated(self) -> Progress:
        """Like `open`, but also remove repeated images; see `deduplicate`."""
        # A loop, because another process may store the same images meanwhile.
        while self.open().repeated:
            self.deduplicate()
        return self.progress

    def peek(self) -> Progress:
        """Read the footers of the parts that were added since the last reading.

        This is cheap, and safe while other processes write. A part that cannot be read is tried again at the next
        reading; only `open` raises an error for it.

        Raises:
            InputError: The folder belongs to another job.
        """
        self._known |= read_parts(self.out, self.form, self.key, whole=False, known=self._known).by_name
        self._positions.clear()
        self.progress = summarise(self._known)
        return self.progress

    def write(self, part: Part) -> None:
        """Add a part, as a whole or not at all.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        data = encode(replace(part, written=self._clock()), self.form, self.key)
        write_atomically(self.folder / part_name(data), data)

    def clear(self) -> None:
        """Remove all parts, damaged parts, lists of images (`write_listing`) and the key, for a fresh start."""
        beside = [
            path
            for prefix in (_DAMAGED_PREFIX, LISTING_PREFIX, KEY_FILE)
            for path in self.folder.glob(f"{prefix}*")
        ]
        for path in [*part_paths(self.folder), *beside]:
            path.unlink(missing_ok=True)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove temporary files of killed writers; recent ones stay, because they may be in use."""
        for prefix in ("part-", LISTING_PREFIX):
            remove_leftovers(self.folder, prefix, self._clock() - ABANDONED_SECONDS)

    def deduplicate(self) -> None:
        """Rewrite parts so that each image is in one part only: the one that was written first.

        Images repeat if two starts of the job ran at once, or if merged folders overlap. Several processes may
        deduplicate at once, with different views of the folder. A rewritten part keeps its `written` time, so all
        of them keep the same copy. A copy is removed only if an earlier one was seen, so no image is lost.
        """
        earliest_parts = first_parts(self._known)
        old, new = set[str](), set[str]()
        for name, part in self._known.items():
            kept = [image for image in part.images if earliest_parts[image] == name]
            if len(kept) < len(part.images):
                # Another process may have rewritten it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    new.add(self._rewrite(name, part, kept))
                    old.add(name)
        # The old parts are removed once all new ones are written, so that no image is lost in between. A new part
        # may equal an old one byte for byte.
        for name in old - new:
            (self.folder / name).unlink(missing_ok=True)

    def _rewrite(self, name: str, part: Part, kept: Sequence[str]) -> str:
        """Write a copy of a part with some of its images, and return its name."""
        # Imported here because repeated images are rare, and the import takes a quarter of a second.
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        rows = pq.read_table(parquet_source(self.folder / name), partitioning=None)
        rows = rows.filter(pc.is_in(rows[IMAGE], pa.array(kept, pa.string())))
        data = encode_table(rows, replace(part, images=list(kept)), self.form, self.key)
        write_atomically(self.folder / part_name(data), data)
        return part_name(data)

    def frame(self, columns: Sequence[str]) -> "pd.DataFrame":
        """Read some columns of all parts, sorted by image; rows of one image keep their order.

        Raises:
            EnsembleEvalError: A part has been removed since the last reading.
        """
        return sorted_frame(self.tables(columns), columns)

    def tables(self, columns: Sequence[str]) -> "Iterator[pa.Table]":
        """Like `frame`, but as one unsorted Arrow table per part."""
        return read_rows(self.folder, dict(sorted(self._known.items())), columns)

    def rows(self, image: str) -> list[dict[str, Any]]:
        """Read the rows of one image that is done; lists become NumPy arrays.

        The format must be `by_image`: each image has its own row group.

        Raises:
            InputError: The part has been removed or changed since the last reading.
        """
        import pyarrow as pa

        if not self._positions:
            earliest_parts = first_parts(self._known)
            self._positions = {
                each: (name, self._known[name].images.index(each)) for each, name in earliest_parts.items()
            }
        name, row_group = self._positions[image]
        try:
            table = self._file(self.folder / name).read_row_group(row_group)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self.folder / name} has changed while it was in use ({error}); run the command again"
            ) from error
        columns = {name: table.column(name) for name in table.column_names}
        return [{name: _value(column[row]) for name, column in columns.items()} for row in range(len(table))]

    def unreadable_since_opening(self) -> frozenset[str]:
        """Ids of the images that were found unreadable after `open`."""
        later = (part for name, part in self._known.items() if name not in self._opened_with)
        return frozenset(image for part in later for image in part.unreadable)


def first_parts(parts: Mapping[str, Part]) -> dict[str, str]:
    """Map each image to the name of the earliest part that contains it."""
    earliest_parts: dict[str, str] = {}
    for name, part in sorted(parts.items(), key=lambda item: (item[1].written, item[1].seconds, item[0])):
        for image in part.images:
            earliest_parts.setdefault(image, name)
    return earliest_parts


def read_rows(folder: Path, parts: Mapping[str, Part], columns: Sequence[str]) -> "Iterator[pa.Table]":
    """Read columns, which must include `image`. An image in several parts is read only from the earliest one.

    Raises:
        EnsembleEvalError: A part was removed before its rows were read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    earliest_parts = first_parts(parts)
    try:
        for name, part in parts.items():
            # Without this, pyarrow would turn a folder name such as `crops=10` into a column.
            table = pq.read_table(parquet_source(folder / name), columns=list(columns), partitioning=None)
            kept = [image for image in part.images if earliest_parts[image] == name]
            if len(kept) < len(part.images):
                table = table.filter(pc.is_in(table[IMAGE], pa.array(kept, pa.string())))
            yield table.replace_schema_metadata()
    except FileNotFoundError as error:
        raise EnsembleEvalError(
            f"another process has changed {folder} meanwhile; run the same command again"
        ) from error


def sorted_frame(tables: "Iterable[pa.Table]", columns: Sequence[str]) -> "pd.DataFrame":
    """Join tables to one frame, sorted by image; rows of one image keep their order."""
    import pandas as pd
    import pyarrow as pa

    rows = list(tables)
    if not rows:
        return pd.DataFrame(columns=list(columns))
    frame: pd.DataFrame = pa.concat_tables(rows).to_pandas()
    return frame.sort_values(IMAGE, kind="stable", ignore_index=True)


def summarise(parts: Mapping[str, Part]) -> Progress:
    """Compute the progress of a job from its parts."""
    done: set[str] = set()
    repeated: set[str] = set()
    for part in parts.values():
        repeated |= done.intersection(part.images)
        done.update(part.images)
    # An image that was unreadable at first may have been read later, for example from a network drive.
    unreadable = {
        image: reason for part in parts.values() for image, reason in part.unreadable.items() if image not in done
    }
    executions: list[Execution] = []
    for part in sorted(parts.values(), key=lambda part: part.written):
        executions += [each for each in part.executions if each not in executions]
    return Progress(
        frozenset(done),
        unreadable,
        passes=sum(part.passes for part in parts.values()),
        all_passes=sum(part.all_passes for part in parts.values()),
        seconds=sum(part.seconds for part in parts.values()),
        repeated=frozenset(repeated),
        executions=tuple(executions),
    )


class PartBuffer:
    """Collects finished images and writes them to a store in a background thread, one part at a time.

    A part is passed to the thread only when the previous one is on disk. A crash therefore loses at most
    the work of `save_every` seconds, plus the work done while one part is written.

    Args:
        store: Where the parts go.
        execution: Returns the `Execution` that describes the current hardware, software and batch size.
        clock: Returns monotonic time in seconds.
        save_every: Seconds after which a part is written, however small it is.
    """

    def __init__(
        self,
        store: Store[Any],
        execution: Callable[[], Execution],
        clock: Callable[[], float] = time.monotonic,
        save_every: float = 30.0,
    ) -> None:
        self._store = store
        self._execution = execution
        self._save_every = save_every
        self._clock = clock
        self._part = Part()
        self._opened = clock()
        self._writing: Future[None] | None = None

    def add(self, image: str, rows: Iterable[dict[str, Any]], passes: int, all_passes: int) -> None:
        """Add the rows of an image, the number of its passes, and the number without early exit."""
        self._part.rows.extend(rows)
        self._part.images.append(image)
        if (execution := self._execution()) not in self._part.executions:
            self._part.executions.append(execution)
        self._part.passes += passes
        self._part.all_passes += all_passes

    def add_unreadable(self, image: str, reason: str) -> None:
        """Add an image without rows."""
        self._part.unreadable[image] = reason

    def write_if_due(self) -> None:
        """Start to write the part if it is large or old enough.

        Raises:
            InputError: The previous part could not be written; see `Store.write`.
        """
        if self._writing is not None and self._writing.done():
            self._wait()
        size = len(self._part.images) + len(self._part.unreadable)
        if size >= _PART_IMAGES or self._clock() - self._opened > self._save_every:
            self._begin_writing()

    def write(self) -> None:
        """Write the rest, and return when it is on the disk; see `Store.write` for errors."""
        try:
            self._begin_writing()
        finally:
            self._wait()

    def _begin_writing(self) -> None:
        """Pass the part to a thread once the previous one is written. Raises the previous part's error, if any."""
        part, self._part = self._part, Part()
        part.seconds, self._opened = self._clock() - self._opened, self._clock()
        try:
            self._wait()
        finally:
            if part.images or part.unreadable:
                executor = ThreadPoolExecutor(1, thread_name_prefix="write")
                self._writing = executor.submit(self._store.write, part)
                # The thread ends after this part. The interpreter waits for it at exit.
                executor.shutdown(wait=False)

    def _wait(self) -> None:
        """Wait until the part that is being written is on disk, and raise its error, if any, only once."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _opened_file(path: Path) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    return pq.ParquetFile(parquet_source(path), page_checksum_verification=True)


def _value(scalar: "pa.Scalar") -> Any:
    import pyarrow as pa

    return scalar.values.to_numpy() if isinstance(scalar, pa.ListScalar) else scalar.as_py()
