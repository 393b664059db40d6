"""Results as they finish: a folder of parts that survives any interruption.

A part is written under a temporary name, flushed and renamed to the hash of its own bytes, so a part that
was cut short or changed is noticed and done again, and nothing is keyed by process. Any number of processes
may write and read at once; only `clear` wants the folder to itself.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble_eval.datasets.listing import LISTING_PREFIX
from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.files import remove_leftovers, require_writable, write_atomically
from ensemble_eval.results.key import RunKey
from ensemble_eval.results.parts import (
    PREDICTIONS_FOLDER,
    Execution,
    Part,
    outcome_columns,
    part_name,
    part_paths,
    read_parts,
)
from ensemble_eval.results.repeated_images import keep_once

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Parquet's readers pass over names that begin with an underscore.
_DAMAGED_PREFIX = "_damaged-"
# Nobody is at one file for this long.
_LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Progress:
    """All that the parts of a folder say together.

    Attributes:
        done: ids of images with predictions.
        unreadable: reason by id, for images without predictions.
        passes: run so far, those for images that were done twice included.
        all_passes: what full runs of the same images, as often, would have taken.
        seconds: worked so far, the sum over all processes.
        damaged: names of parts that were set aside because their bytes had changed.
        repeated: ids of images with predictions in more than one part.
        executions: what ran them, each once, in the order in which their first parts were written.
    """

    done: frozenset[str]
    unreadable: Mapping[str, str]
    passes: int
    all_passes: int
    seconds: float
    damaged: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    executions: tuple[Execution, ...] = ()

    @property
    def accounted(self) -> frozenset[str]:
        """Ids of all images that need no more work: done or unreadable."""
        return self.done | self.unreadable.keys()


class Store:
    """The `predictions/` folder of one run.

    Args:
        out: the run's output folder; it need not exist yet.
        key: what the results depend on, and which columns they have; parts of another key are refused.
        clock: seconds since 1970.
    """

    def __init__(self, out: Path, key: RunKey, *, clock: Callable[[], float] = time.time) -> None:
        self._out = out
        self._folder = out / PREDICTIONS_FOLDER
        self._key = key
        self._clock = clock
        self._known: dict[str, Part] = {}
        self._opened_with: frozenset[str] = frozenset()

    @property
    def key(self) -> RunKey:
        """What the results depend on."""
        return self._key

    def open(self) -> Progress:
        """Read all parts in full; those whose bytes changed are renamed away from the readers' sight.

        Raises:
            InputError: the folder belongs to another run (the difference is named), or cannot be read or
                written.
        """
        require_writable(self._folder)
        parts = read_parts(self._out, self._key)
        self._known, damaged = dict(parts.by_name), []
        for path in parts.damaged:
            # Another process that opens the folder may be the one that sets a part aside.
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(_DAMAGED_PREFIX + path.name))
                damaged.append(path.name)
        self._opened_with = frozenset(self._known)
        return replace(combine(self._known), damaged=tuple(damaged))

    def open_each_once(self) -> Progress:
        """As `open`, and keep images that stand in several parts in one only; see `repeated_images`."""
        # Again while another run in the same folder goes on to store what is there already.
        while (progress := self.open()).repeated:
            self.remove_repeated()
        return progress

    def peek(self) -> Progress:
        """Read what parts came since the last reading, only the ends of their files: cheap, while others write.

        What cannot be read now is looked at again, and `open` has the last word on it.

        Raises:
            InputError: the folder belongs to another run (the difference is named).
        """
        self._known |= read_parts(self._out, self._key, whole=False, known=self._known).by_name
        return combine(self._known)

    def write(self, part: Part) -> None:
        """Add a part; it is either wholly there or not at all.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        # Only when there is something to write, which is beside the work: pyarrow takes its time to import.
        from ensemble_eval.results.encoding import encode

        data = encode(replace(part, written=self._clock()), self._key)
        write_atomically(self._folder / part_name(data), data)

    def clear(self) -> None:
        """Remove all parts and what lies beside them, for a fresh start."""
        beside = [path for prefix in (_DAMAGED_PREFIX, LISTING_PREFIX) for path in self._folder.glob(f"{prefix}*")]
        for path in [*part_paths(self._out), *beside]:
            path.unlink()
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writers that were killed; young ones may be another run's at work."""
        for prefix in ("part-", LISTING_PREFIX):
            remove_leftovers(self._folder, prefix, self._clock() - _LEFTOVER_SECONDS)

    def remove_repeated(self) -> None:
        """Keep images of the last reading that stand in several parts in one only; see `repeated_images`."""
        keep_once(self._folder, self._known, self._key)

    def outcomes(self) -> "pd.DataFrame":
        """What tables are made from: image, member, crops, label, and ranks or decisions; see `predictions`."""
        return self.predictions([*outcome_columns(self._key), "label"])

    def predictions(self, columns: Sequence[str]) -> "pd.DataFrame":
        """Some columns of the parts of the last reading, sorted by image, in the parts' order within one.

        Raises:
            EnsembleEvalError: one of them is not there any more.
        """
        return sorted_frame(read_rows(self._out, sorted(self._known), columns), columns)

    def unreadable_since_opening(self) -> frozenset[str]:
        """Ids of images that parts which came after `open` list as unreadable."""
        later = (part for name, part in self._known.items() if name not in self._opened_with)
        return frozenset(image for part in later for image in part.unreadable)


def read_rows(out: Path, names: Iterable[str], columns: Sequence[str]) -> "Iterator[pa.Table]":
    """Some columns of the rows of each of some parts.

    Raises:
        EnsembleEvalError: one of them is not there any more.
    """
    import pyarrow.parquet as pq

    folder = out / PREDICTIONS_FOLDER
    try:
        for name in names:
            # pyarrow takes a folder's name such as `crops=10` for a column of the files below it.
            table = pq.read_table(folder / name, columns=list(columns), partitioning=None)
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
    return frame.sort_values("image", kind="stable", ignore_index=True)


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
    passes = sum(part.passes for part in parts.values())
    seconds = sum(part.seconds for part in parts.values())
    all_passes = sum(part.all_passes for part in parts.values())
    executions: list[Execution] = []
    for part in sorted(parts.values(), key=lambda part: part.written):
        executions += [each for each in part.executions if each not in executions]
    return Progress(
        frozenset(done),
        unreadable,
        passes,
        all_passes,
        seconds,
        repeated=frozenset(repeated),
        executions=tuple(executions),
    )
