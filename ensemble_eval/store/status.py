"""Where a job stands, from its parts alone: any reader of the folder can tell while the job runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.store.parts import Format, Part, read_parts, refuse_unread, require_key
from ensemble_eval.store.store import summarise

# The pace is that of the newest parts, so that a night in the queue does not count.
_PACE_WINDOW_SECONDS = 600.0


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        images: Images of the data set.
        done: Images with rows.
        unreadable: Images that could not be read.
        passes: Passes run so far.
        images_per_second: The pace in the ten minutes before the newest part.
        newest: When the newest part was written, in seconds since 1970.
        damaged: Names of parts that do not say what they hold; the next start does their images again.
        last_file: The file that the job writes at its very end.
    """

    images: int
    done: int
    unreadable: int
    passes: int
    images_per_second: float
    newest: float
    damaged: tuple[str, ...]
    last_file: str

    @property
    def missing(self) -> int:
        """Images that are not accounted for."""
        return self.images - self.done - self.unreadable

    @property
    def seconds_left(self) -> float:
        """At the newest pace."""
        return self.missing / self.images_per_second


def read_status(out: Path, form: Format[Any]) -> Status:
    """Read the ends of all parts below `out`.

    Raises:
        InputError: There are no parts, only damaged ones, or those of several jobs.
    """
    found = read_parts(out, form, whole=False)
    refuse_unread(found)
    key, parts = require_key(out, found), found.by_name.values()
    progress = summarise(found.by_name)
    return Status(
        images=key.images,
        done=len(progress.done),
        unreadable=len(progress.unreadable),
        passes=progress.passes,
        images_per_second=_images_per_second(parts),
        newest=max(part.written for part in parts),
        damaged=tuple(path.name for path in found.damaged),
        last_file=key.last_file or form.record,
    )


def _images_per_second(parts: Iterable[Part]) -> float:
    # After a merge there are parts whose images all stand in others; they say nothing of the pace.
    parts = [part for part in parts if part.images or part.unreadable]
    newest = max(part.written for part in parts)
    recent = [part for part in parts if part.written >= newest - _PACE_WINDOW_SECONDS]
    began = min(part.written - part.seconds for part in recent)
    images = sum(len(part.images) + len(part.unreadable) for part in recent)
    return images / max(newest - began, 1e-9)
