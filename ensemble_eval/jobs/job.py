"""What a job is: how it computes rows for the images of a data set, and the events that it reports.

A job consists of a key with a store, a function from images to rows, and a function that writes the tables. The
runner adds everything else.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from ensemble_eval.engine.pool import UnreadableImage
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.settings import JobSettings
from ensemble_eval.store.folder import Folder
from ensemble_eval.tables.table import Table

SettingsT = TypeVar("SettingsT", bound=JobSettings)
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


@dataclass(frozen=True)
class ImageRows:
    """The result of a job for one image.

    Attributes:
        image: The image's id.
        rows: Its rows, with the columns of the schema.
        passes: Passes that it took.
        all_passes: Passes that it would have taken without early exit.
    """

    image: str
    rows: Sequence[dict[str, Any]]
    passes: int = 0
    all_passes: int = 0


class Worker(Protocol):
    """The part of a job that computes rows in one process.

    Attributes:
        device: The device that it computes on.
        batch_size: The current number of crops per batch.
    """

    device: torch.device

    @property
    def batch_size(self) -> int: ...  # noqa: D102 (see the class)

    def results(
        self, folder: Folder[Any], positions: Sequence[int]
    ) -> Generator[ImageRows | UnreadableImage, None, None]:
        """Compute the rows of some images, and yield each image as it is finished.

        Args:
            folder: One of the job's folders.
            positions: The indices of the images in the data set.
        """

    def notices(self) -> list[str]:
        """Return the sentences for the user that came up since the last call."""


class Job(ABC, Generic[SettingsT, Outcome_co]):
    """A computation for every image of a data set, whose rows are stored.

    Attributes:
        settings: The settings of the job.
        folders: Where its rows are stored: one folder for most jobs, and one for each set of proposals.
        units: What the progress counts, in the plural.
    """

    units = "images"

    settings: SettingsT
    folders: Sequence[Folder[Any]]

    def check(self, ranks: int) -> Iterable[str]:
        """Check the inputs in a supervisor, before it starts its workers.

        Args:
            ranks: The number of workers.

        Returns:
            Notices for the user.

        Raises:
            InputError: Something cannot be used.
        """
        del ranks
        return ()

    @abstractmethod
    def start(self, process: Process, stop: StopRequests) -> Worker:
        """Open the worker of this process, whose first notices are those of the start.

        Raises:
            InputError: Something cannot be used.
        """

    @abstractmethod
    def describe(self, hardware: str) -> Iterable[str]:
        """Return lines that describe the computation.

        Args:
            hardware: The device or the number of ranks.
        """

    @abstractmethod
    def finish(self) -> Outcome_co:
        """Write the tables, once every image is accounted for in every folder.

        Raises:
            InputError: The tables cannot be made or written.
        """

    def partial_table(self) -> Table | None:
        """Return the table of the images that are stored so far, or None if there is none.

        Raises:
            EnsembleEvalError: The folder was changed meanwhile.
        """
        return None
