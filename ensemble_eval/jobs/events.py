"""The events that a job reports."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Outcome_co = TypeVar("Outcome_co", covariant=True)


@dataclass(frozen=True)
class Notice:
    """A warning for the user, as a sentence."""

    sentence: str


@dataclass(frozen=True)
class Opened:
    """The inputs are open, and the work begins.

    Attributes:
        lines: A description of the job.
        done: The number of images that an earlier start had done.
        images: The number of all images.
        units: What is counted, in the plural.
    """

    lines: tuple[str, ...]
    done: int
    images: int
    units: str = "images"


@dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes:
        images_done: The number of images in the whole data set that are done.
        images: The number of images in the whole data set.
        passes: The number of passes since the start.
        unreadable: The number of images that could not be read.
    """

    images_done: int
    images: int
    passes: int
    unreadable: int

    def __str__(self) -> str:
        return f"{self.images_done}/{self.images} images, {self.passes} passes"


@dataclass(frozen=True)
class Finished(Generic[Outcome_co]):
    """All images are done, and the tables are written."""

    outcome: Outcome_co


Event = Notice | Opened | Progress | Finished[Outcome_co]
