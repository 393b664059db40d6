"""One image in the engine's pool: its views that are in no batch yet, and what is made of their probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.pixels import CropSource

Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class ReadyImage:
    """An image whose pixels are decoded and resized.

    `position` is its index in the whole data set, whatever part of it is evaluated now: it decides which
    rows of a batch the image's crops may take.
    """

    position: int
    id: str
    label: int
    source: CropSource


@dataclass(frozen=True)
class UnreadableImage:
    """An image that has no pixels to evaluate, and why."""

    id: str
    reason: str


class OpenViews:
    """The views of one image that are in no batch yet, by the members that must run them.

    Args:
        members: indices into the ensemble; all of them run every view, until `part`.
        views: how many.

    Attributes:
        passes: views that went into a batch, times the members of that batch.
    """

    def __init__(self, members: Sequence[int], views: int) -> None:
        self._by_members: dict[tuple[int, ...], dict[int, None]] = {tuple(members): dict.fromkeys(range(views))}
        self.passes = 0

    def counts(self) -> Mapping[tuple[int, ...], int]:
        """How many views are open for each group of members."""
        return {members: len(views) for members, views in self._by_members.items()}

    def of(self, members: Sequence[int]) -> list[int]:
        """The views that are open for exactly these members, in crop order."""
        return list(self._by_members.get(tuple(members), ()))

    def take(self, view: int, members: Sequence[int]) -> None:
        """Record that a view goes into a batch of these members."""
        del self._by_members[tuple(members)][view]
        self.passes += len(members)

    def give_back(self, view: int, members: Sequence[int]) -> None:
        """Record that the batch of a view did not run."""
        views = [*self._by_members[tuple(members)], view]
        self._by_members[tuple(members)] = dict.fromkeys(sorted(views))
        self.passes -= len(members)

    def part(self, members: Sequence[int]) -> None:
        """Let some members run the rest, each in batches of its own, and the others no more."""
        self._by_members = {
            (member,): dict(views)
            for together, views in self._by_members.items()
            for member in together
            if member in members
        }


class PooledImage(ABC, Generic[Result_co]):
    """An image in the pool. Its kinds decide what is made of its probabilities, and when there are enough of them.

    Args:
        image: with its pixels where batches are put together.
        members: of the ensemble, how many.

    Attributes:
        image: as given.
        open: the views that are still to be run.
    """

    def __init__(self, image: ReadyImage, members: int) -> None:
        self.image = image
        self.open = OpenViews(range(members), len(image.source.plan.views))

    def share_of(self, batch_size: int) -> int:
        """How many of its crops one batch takes before other images get their share: as many as fit."""
        return batch_size

    @abstractmethod
    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Take the outcome float32 [len(members), classes] of one view; the array is used again later."""

    def decide(self) -> None:
        """Decide what is certain by now; called after each batch, before `result` is asked for."""

    @abstractmethod
    def result(self) -> Result_co | None:
        """The image's result, or None as long as it is not known; asking changes nothing."""
