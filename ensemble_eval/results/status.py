"""Where a run stands, from its parts alone: any reader of the folder can tell while the job runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.results.parts import Part
from ensemble_eval.results.store import PREDICTIONS_FOLDER, DamagedPartError, combine, describe_part, part_paths

# The pace is that of the newest parts, so that a night in the queue does not count.
_PACE_WINDOW_SECONDS = 600.0


@dataclass(frozen=True)
class Status:
    """A run's standing.

    Attributes:
        images: of the data set.
        done: with predictions.
        unreadable: without.
        passes: run so far.
        images_per_second: in the ten minutes before the newest part.
        newest: when the newest part was written, in seconds since 1970.
        damaged: names of parts that do not say what they hold; a run does their images again.
    """

    images: int
    done: int
    unreadable: int
    passes: int
    images_per_second: float
    newest: float
    damaged: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Images that are not accounted for."""
        return self.images - self.done - self.unreadable

    @property
    def seconds_left(self) -> float:
        """At the newest pace."""
        return self.missing / self.images_per_second


def read_status(out: Path) -> Status:
    """Read the ends of all parts below `out`.

    Raises:
        InputError: no parts there, only damaged ones, or those of several runs.
    """
    keys, parts, damaged = {}, {}, []
    for path in part_paths(out / PREDICTIONS_FOLDER):
        try:
            with path.open("rb") as file:
                keys[path.name], parts[path.name] = describe_part(path, file)
        except FileNotFoundError:
            # A process that opens the folder sets damaged parts aside.
            continue
        except DamagedPartError:
            damaged.append(path.name)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); mend it or try again") from error
    if damaged and not parts:
        raise InputError(f"all {len(damaged)} parts in {out} are damaged; the next start does their images again")
    if not parts:
        raise InputError(f"{out} holds no results yet; a run writes its first part within --save-every seconds")
    key = next(iter(keys.values()))
    if any(other != key for other in keys.values()):
        raise InputError(f"{out} holds parts of several runs; it was not written by this tool alone")
    progress = combine(parts)
    return Status(
        images=key["images"],
        done=len(progress.done),
        unreadable=len(progress.unreadable),
        passes=progress.passes,
        images_per_second=_images_per_second(parts.values()),
        newest=max(part.written for part in parts.values()),
        damaged=tuple(damaged),
    )


def _images_per_second(parts: Iterable[Part]) -> float:
    # After a merge there are parts whose images all stand in others; they say nothing of the pace.
    parts = [part for part in parts if part.images or part.unreadable]
    newest = max(part.written for part in parts)
    recent = [part for part in parts if part.written >= newest - _PACE_WINDOW_SECONDS]
    began = min(part.written - part.seconds for part in recent)
    images = sum(len(part.images) + len(part.unreadable) for part in recent)
    return images / max(newest - began, 1e-9)
