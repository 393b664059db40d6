"""The progress of a job, from the parts in its folder, also while it runs on another machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble_eval.errors import InputError
from ensemble_eval.store.parts import Format, Part, foreign_files, read_parts, refuse_unread, require_key
from ensemble_eval.store.store import summarise

# The pace is computed from the newest parts, so that time in the queue does not count.
_PACE_WINDOW_SECONDS = 600.0


@dataclass(frozen=True)
class Status:
    """The progress of a job.

    Attributes:
        images: The number of images in the data set.
        done: The number of images with rows.
        unreadable: The number of images that could not be read.
        passes: The number of passes so far.
        images_per_second: The pace in the ten minutes before the newest part.
        newest: When the newest part was written, in seconds since 1970.
        damaged: Names of the damaged parts, whose images the next start computes again.
        last_file: The file that the job writes last.
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
        """The number of images that are not accounted for."""
        return self.images - self.done - self.unreadable

    @property
    def seconds_left(self) -> float:
        """The remaining time at the current pace."""
        return self.missing / self.images_per_second


def read_status(out: Path, form: Format[Any]) -> Status:
    """Read the footers of all parts in an output folder.

    Raises:
        InputError: There are no parts, all are damaged, or they are of several jobs or of another version.
    """
    found = read_parts(out, form, whole=False)
    refuse_unread(found)
    folder = out / form.folder
    if found.key is None and not found.damaged and foreign_files(folder):
        raise InputError(
            f"{folder} holds Parquet files that this version of ensemble-eval did not write, such as those of an "
            "earlier version; start the job again in another folder, or with `fresh=True`"
        )
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
    # After a merge, some parts hold no images, because all of them are in other parts. They have no pace.
    parts = [part for part in parts if part.images or part.unreadable]
    newest = max(part.written for part in parts)
    recent = [part for part in parts if part.written >= newest - _PACE_WINDOW_SECONDS]
    began = min(part.written - part.seconds for part in recent)
    images = sum(len(part.images) + len(part.unreadable) for part in recent)
    return images / max(newest - began, 1e-9)
