"""Rows as they finish: a folder of parts that survives any interruption.

A part is written under a temporary name, flushed and renamed to the hash of its own bytes, so a part that
was cut short or changed is noticed and done again, and nothing is keyed by process. Any number of processes
may write and read at once; only `clear` wants the folder to itself.
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
from ensemble_eval.files import remove_leftovers, require_writable, write_atomically
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

# Parquet's readers pass over names that begin with an underscore.
_DAMAGED_PREFIX = "_damaged-"
# Nobody is at one file for this long.
LEFTOVER_SECONDS = 3600.0
# A part is written when it holds this many images or has been open this long: what a crash can cost.
_PART_IMAGES = 256
# The metadata of a part of row groups takes some hundred KiB.
_MOST_OPEN_FILES = 16


@dataclass(frozen=True)
class Progress:
    """All that the parts of a folder say together.

    Attributes:
        done: Ids of images with rows.
        unreadable: The reason by id, for images without rows.
        passes: Passes run so far, those for images that were done twice included.
        all_passes: Passes that the same images, as often, would have taken without early exit.
        seconds: Seconds of work so far, the sum over all processes.
        damaged: Names of parts that were set aside because their bytes had changed.
        repeated: Ids of images with rows in more than one part.
        executions: What ran them, each once, in the order in which their first parts were written.
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
        """Ids of all images that need no more work: done or unreadable."""
        return self.done | self.unreadable.keys()


class Store(Generic[KeyT]):
    """The parts of one job in its output folder.

    Args:
        out: The job's output folder; it need not exist yet.
        form: How the job's results lie in it.
        key: What the rows depend on, and which columns they have; parts of another key are refused.
        clock: Seconds since 1970.

    Attributes:
        progress: What the parts said at the last reading.
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
        self._file = functools.lru_cache(_MOST_OPEN_FILES)(_opened_file)

    def open(self) -> Progress:
        """Read all parts in full; those whose bytes changed are renamed away from the readers' sight.

        Raises:
            InputError: The folder belongs to another job (the difference is named), or cannot be read or written.
        """
        require_writable(self.folder)
        parts = read_parts(self.out, self.form, self.key)
        self._known, damaged = dict(parts.by_name), []
        for path in parts.damaged:
            # Another process that opens the folder may be the one that sets a part aside.
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(_DAMAGED_PREFIX + path.name))
                damaged.append(path.name)
        self._opened_with = frozenset(self._known)
        self._positions.clear()
        self.progress = replace(combine(self._known), damaged=tuple(damaged))
        return self.progress

    def open_each_once(self) -> Progress:
        """As `open`, and keep images that stand in several parts in one only; see `keep_once`."""
        # Again while another job in the same folder goes on to store what is there already.
        while self.open().repeated:
            self.keep_once()
        return self.progress

    def peek(self) -> Progress:
        """Read what parts came since the last reading, only the ends of their files: cheap, while others write.

        What cannot be read now is looked at again, and `open` has the last word on it.

        Raises:
            InputError: The folder belongs to another job (the difference is named).
        """
        self._known |= read_parts(self.out, self.form, self.key, whole=False, known=self._known).by_name
        self._positions.clear()
        self.progress = combine(self._known)
        return self.progress

    def write(self, part: Part) -> None:
        """Add a part; it is either wholly there or not at all.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        data = encode(replace(part, written=self._clock()), self.form, self.key)
        write_atomically(self.folder / part_name(data), data)

    def clear(self) -> None:
        """Remove all parts and what lies beside them, for a fresh start."""
        beside = [path for prefix in (_DAMAGED_PREFIX, LISTING_PREFIX) for path in self.folder.glob(f"{prefix}*")]
        for path in [*part_paths(self.folder), *beside]:
            path.unlink(missing_ok=True)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writers that were killed; young ones may be in use."""
        for prefix in ("part-", LISTING_PREFIX):
            remove_leftovers(self.folder, prefix, self._clock() - LEFTOVER_SECONDS)

    def keep_once(self) -> None:
        """Rewrite parts so that each image stands in one only: the one that was written first.

        Two jobs may have worked in one folder, or merged folders overlap. Others may do the same at the same time,
        each with what it has seen of the folder. When a part was written does not change as it is rewritten, so
        all of them keep the same, and a copy goes only where an earlier one was seen: none is lost.
        """
        keepers = keepers_of(self._known)
        old, new = set[str](), set[str]()
        for name, part in self._known.items():
            kept = [image for image in part.images if keepers[image] == name]
            if len(kept) < len(part.images):
                # Somebody else has just rewritten it.
                with contextlib.suppress(FileNotFoundError):
                    new.add(self._rewrite(name, part, kept))
                    old.add(name)
        # The old ones go when all new ones are there. In between images repeat, and none is lost; what is new may
        # be, to the byte, a part that was there before.
        for name in old - new:
            (self.folder / name).unlink(missing_ok=True)

    def _rewrite(self, name: str, part: Part, kept: Sequence[str]) -> str:
        """Write what is kept of a part beside it, and return its name."""
        # Only where an image stands twice, which is rare: this takes a quarter of a second to import.
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        rows = pq.read_table(self.folder / name, partitioning=None)
        rows = rows.filter(pc.is_in(rows[IMAGE], pa.array(kept, pa.string())))
        data = encode_table(rows, replace(part, images=list(kept)), self.form, self.key)
        write_atomically(self.folder / part_name(data), data)
        return part_name(data)

    def frame(self, columns: Sequence[str]) -> "pd.DataFrame":
        """Some columns of the parts of the last reading, sorted by image, in the parts' order within one.

        Raises:
            EnsembleEvalError: A part is not there any more.
        """
        return sorted_frame(self.tables(columns), columns)

    def tables(self, columns: Sequence[str]) -> "Iterator[pa.Table]":
        """As `frame`, part by part and not sorted."""
        return read_rows(self.folder, dict(sorted(self._known.items())), columns)

    def rows(self, image: str) -> list[dict[str, Any]]:
        """The rows of an image that is done, in their order; lists are NumPy arrays. Its format is `by_image`.

        Raises:
            InputError: Its part has gone or changed since the last reading.
        """
        import pyarrow as pa

        if not self._positions:
            keepers = keepers_of(self._known)
            self._positions = {
                each: (name, self._known[name].images.index(each)) for each, name in keepers.items()
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
        """Ids of images that parts which came after `open` list as unreadable."""
        later = (part for name, part in self._known.items() if name not in self._opened_with)
        return frozenset(image for part in later for image in part.unreadable)


def keepers_of(parts: Mapping[str, Part]) -> dict[str, str]:
    """The name of the part that keeps each image, by image."""
    keepers: dict[str, str] = {}
    for name, part in sorted(parts.items(), key=lambda item: (item[1].written, item[1].seconds, item[0])):
        for image in part.images:
            keepers.setdefault(image, name)
    return keepers


def read_rows(folder: Path, parts: Mapping[str, Part], columns: Sequence[str]) -> "Iterator[pa.Table]":
    """Some columns of the rows of some parts, `image` among them; an image that several parts hold comes once.

    Raises:
        EnsembleEvalError: A part is not there any more.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keepers = keepers_of(parts)
    try:
        for name, part in parts.items():
            # pyarrow takes a folder's name such as `crops=10` for a column of the files below it.
            table = pq.read_table(folder / name, columns=list(columns), partitioning=None)
            kept = [image for image in part.images if keepers[image] == name]
            if len(kept) < len(part.images):
                table = table.filter(pc.is_in(table[IMAGE], pa.array(kept, pa.string())))
            yield table.replace_schema_metadata()
    except FileNotFoundError as error:
        raise EnsembleEvalError(
            f"another process has changed {folder} meanwhile; run the same command again"
        ) from error


def sorted_frame(tables: "Iterable[pa.Table]", columns: Sequence[str]) -> "pd.DataFrame":
    """The rows of some parts as one frame, sorted by image, in the parts' order within one."""
    import pandas as pd
    import pyarrow as pa

    rows = list(tables)
    if not rows:
        return pd.DataFrame(columns=list(columns))
    frame: pd.DataFrame = pa.concat_tables(rows).to_pandas()
    return frame.sort_values(IMAGE, kind="stable", ignore_index=True)


def combine(parts: Mapping[str, Part]) -> Progress:
    """What parts say together."""
    done: set[str] = set()
    repeated: set[str] = set()
    for part in parts.values():
        repeated |= done.intersection(part.images)
        done.update(part.images)
    # An image that could not be read once may have been read later: a network drive comes back.
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
    """Collects finished images and writes them to a store as parts, one at a time, in a thread of its own.

    The next part is not handed to that thread before the last is on the disk, so a crash costs the work of
    `save_every` seconds and of the time that writing takes, as it would if nothing went on meanwhile.

    Args:
        store: Where the parts go.
        execution: What runs the images at the moment.
        clock: Seconds, monotonic.
        save_every: Seconds after which a part is written however small it is.
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
        self._writing = _done()

    def add(self, image: str, rows: Iterable[dict[str, Any]], passes: int, all_passes: int) -> None:
        """Take one image's rows, with the passes that it took and would have taken without early exit."""
        self._part.rows.extend(rows)
        self._part.images.append(image)
        if (execution := self._execution()) not in self._part.executions:
            self._part.executions.append(execution)
        self._part.passes += passes
        self._part.all_passes += all_passes

    def add_unreadable(self, image: str, reason: str) -> None:
        """Take note of an image without a result."""
        self._part.unreadable[image] = reason

    def write_if_due(self) -> None:
        """Begin to write a part if it is large or old enough, and report what became of the last.

        Raises:
            InputError: The last one could not be written; see `Store.write`.
        """
        if self._writing.done():
            self._wait()
        size = len(self._part.images) + len(self._part.unreadable)
        if size >= _PART_IMAGES or self._clock() - self._opened > self._save_every:
            self._begin_writing()

    def write(self) -> None:
        """Write what there is, and return when it is on the disk; see `Store.write` for errors."""
        try:
            self._begin_writing()
        finally:
            self._wait()

    def _begin_writing(self) -> None:
        """Hand the part to the thread once the last one is written; that one's error comes from here."""
        part, self._part = self._part, Part()
        part.seconds, self._opened = self._clock() - self._opened, self._clock()
        try:
            self._wait()
        finally:
            self._writing = _in_thread(self._store, part)

    def _wait(self) -> None:
        """Wait for the part that is being written; what it fails with is raised once."""
        writing, self._writing = self._writing, _done()
        writing.result()


def _in_thread(store: Store[Any], part: Part) -> Future[None]:
    """The writing of a part, begun; it is done at once where there is nothing in it."""
    if not part.images and not part.unreadable:
        return _done()
    executor = ThreadPoolExecutor(1, thread_name_prefix="write")
    try:
        return executor.submit(store.write, part)
    finally:
        # The thread ends when it is through, which the end of the program waits for.
        executor.shutdown(wait=False)


def _done() -> Future[None]:
    future = Future[None]()
    future.set_result(None)
    return future


def _opened_file(path: Path) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True)


def _value(scalar: "pa.Scalar") -> Any:
    import pyarrow as pa

    return scalar.values.to_numpy() if isinstance(scalar, pa.ListScalar) else scalar.as_py()
