"""What a run reports as it goes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ensemble_eval.results.folder import Outcome


@dataclass(frozen=True)
class Warned:
    """Something that stops nothing and that the user should know."""

    sentence: str


@dataclass(frozen=True)
class BatchHalved:
    """A batch of this process did not fit into memory; from now on it takes `batch_size` crops."""

    batch_size: int


@dataclass(frozen=True)
class Opened:
    """The inputs are open.

    Attributes:
        models: members that take part.
        crops: of the largest scheme.
        images: of the data set.
        where: the device, or how many ranks on which.
        backend: what runs the networks.
        precision: of the convolutions.
        layout: what the data set was recognised as.
    """

    models: int
    crops: int
    images: int
    where: str
    backend: str
    precision: str
    layout: str = ""


@dataclass(frozen=True)
class Begun:
    """The work begins; an earlier start in the same folder had done `images_done` of `images`."""

    images_done: int
    images: int


@dataclass(frozen=True)
class Step:
    """Where a run stands, as far as the process that tells it knows.

    Attributes:
        images_done: of the whole data set.
        images: of the whole data set.
        passes: crops that went through members since the start.
        unreadable: images that could not be read.
    """

    images_done: int
    images: int
    passes: int
    unreadable: int

    def __str__(self) -> str:
        return f"{self.images_done}/{self.images} images, {self.passes} passes"


@dataclass(frozen=True)
class Finished:
    """All images are done, and the tables are written."""

    outcome: "Outcome"


Event = Warned | BatchHalved | Opened | Begun | Step | Finished
