"""What a job reports as it goes."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Outcome_co = TypeVar("Outcome_co", covariant=True)


@dataclass(frozen=True)
class Notice:
    """A sentence for the user about something that stops nothing and that the user should know."""

    sentence: str


@dataclass(frozen=True)
class Opened:
    """The inputs are open, and the work begins.

    Attributes:
        lines: What is about to be computed, on what, where.
        done: Images that an earlier start had done.
        images: Images in all.
        units: What is counted, where it is not images.
    """

    lines: tuple[str, ...]
    done: int
    images: int
    units: str = "images"


@dataclass(frozen=True)
class Progress:
    """Where a job stands, as far as the process that tells it knows.

    Attributes:
        images_done: Images that are done, in the whole data set.
        images: Images in the whole data set.
        passes: Crops that went through members since the start.
        unreadable: Images that could not be read.
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
