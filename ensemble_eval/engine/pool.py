"""One image in the engine's pool: its views that are in no batch yet, and the result of its probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.pixels import CropSource
from ensemble_eval.crops.plan import ViewGroup

Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class ReadyImage:
    """An image whose pixels are decoded and resized.

    `position` is its index in the whole data set, even if only a part of the data set is evaluated. It decides
    which rows of a batch the image's crops may take.
    """

    position: int
    id: str
    label: int
    source: CropSource


@dataclass(frozen=True)
class UnreadableImage:
    """An image that could not be read, and the reason."""

    id: str
    reason: str


class OpenViews:
    """The views of one image that are in no batch yet, by the members that must run them.

    Args:
        groups: The views of the image, by the members that all run them until `part` is called.

    Attributes:
        passes: The number of passes that went into batches: a view counts once for each member of its batch.
    """

    def __init__(self, groups: Iterable[ViewGroup]) -> None:
        self._by_members = {group.members: dict.fromkeys(group.views) for group in groups}
        self.passes = 0

    def counts(self) -> Mapping[tuple[int, ...], int]:
        """Return the number of open views for each group of members."""
        return {members: len(views) for members, views in self._by_members.items()}

    def of(self, members: Sequence[int]) -> list[int]:
        """Return the views that are open for exactly these members, in crop order."""
        return list(self._by_members.get(tuple(members), ()))

    def take(self, view: int, members: Sequence[int]) -> None:
        """Record that a view goes into a batch for these members."""
        del self._by_members[tuple(members)][view]
        self.passes += len(members)

    def give_back(self, view: int, members: Sequence[int]) -> None:
        """Record that the batch of a view did not run, so that the view is open again."""
        views = [*self._by_members[tuple(members)], view]
        self._by_members[tuple(members)] = dict.fromkeys(sorted(views))
        self.passes -= len(members)

    def part(self, members: Sequence[int]) -> None:
        """Let only some members run the open views, each of them in batches of its own."""
        self._by_members = {
            (member,): dict(views)
            for together, views in self._by_members.items()
            for member in together
            if member in members
        }


class PooledImage(ABC, Generic[Result_co]):
    """An image in the pool. A subclass defines the result of its probabilities, and when there are enough of them.

    Args:
        image: The image, with its pixels on the device where batches are assembled.

    Attributes:
        image: The image, as given.
        open: The views that are in no batch yet.
    """

    def __init__(self, image: ReadyImage) -> None:
        self.image = image
        self.open = OpenViews(image.source.plan.groups)

    def views_per_batch(self, batch_size: int) -> int:
        """Return how many views of this image a batch takes at first; by default, as many as fit."""
        return batch_size

    @abstractmethod
    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Copy the probabilities float32 [len(members), classes] of one view; the array is reused later."""

    def decide(self) -> None:
        """Decide what is certain by now; the engine calls this after each batch, before `result`."""

    @abstractmethod
    def result(self) -> Result_co | None:
        """Return the image's result, or None while it is not known; the image does not change."""
