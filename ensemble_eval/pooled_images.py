"""One image in the engine's pool: which of its views are still to be run, and what is known of it so far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.decisions import decided_top_k
from ensemble_eval.metrics import label_rank
from ensemble_eval.pixels import CropSource


@dataclass(frozen=True)
class ReadyImage:
    """An image whose pixels are decoded and resized.

    `position` is its place in the whole data set, whatever part of it is evaluated now: it decides which
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


@dataclass(frozen=True)
class ImageScores:
    """One image's result, in full.

    Attributes:
        id: of the image.
        label: its class index.
        mean_softmax: for each scheme, float64 [members, classes], the mean over the scheme's crops.
        passes: crops that went through members for it, times members.
    """

    id: str
    label: int
    mean_softmax: Mapping[int, NDArray[np.float64]]
    passes: int

    @property
    def all_passes(self) -> int:
        """As of `ImageDecisions`: nothing was saved."""
        return self.passes


@dataclass(frozen=True)
class ImageDecisions:
    """One image's result when only its decisions are wanted.

    Attributes:
        id: of the image.
        label: its class index.
        top_k: for each scheme and each k, whether the label is among the k best: of every member, then, with
            several, of their mean. None: not known, and not asked for.
        passes: crops that went through members for it, times members.
        all_passes: how many there would have been without decisions.
    """

    id: str
    label: int
    top_k: Mapping[int, Mapping[int, Sequence[bool | None]]]
    passes: int
    all_passes: int


def with_ensemble(by_member: NDArray[np.float64]) -> NDArray[np.float64]:
    """Members' scores float64 [members, classes] and, with several, their mean as one more row."""
    if len(by_member) == 1:
        return by_member
    return np.concatenate([by_member, by_member.mean(axis=0, keepdims=True)])


class PooledImage:
    """An image all of whose views are run.

    Args:
        image: with its pixels where batches are put together.
        members: how many.
        num_classes: length of a score vector.

    Attributes:
        id, source, position: of the image.
        scheme: the largest that is wanted.
    """

    def __init__(self, image: ReadyImage, members: int, num_classes: int) -> None:
        self.id = image.id
        self.source = image.source
        self.position = image.position
        self._label = image.label
        self.scheme = max(image.source.plan.weights)
        views = len(image.source.plan.views)
        self._open = dict.fromkeys(range(views))
        self._done = 0
        self._probabilities = np.empty((views, members, num_classes), dtype=np.float32)

    @property
    def views_left(self) -> int:
        """How many views are in no batch yet."""
        return len(self._open)

    def open_views(self) -> list[int]:
        """The views that are in no batch yet, in crop order."""
        return list(self._open)

    def take(self, view: int) -> None:
        """Take note that a view goes into a batch."""
        del self._open[view]

    def give_back(self, views: Iterable[int]) -> None:
        """Take note that views did not make it through their batch."""
        self._open = dict.fromkeys(sorted([*self._open, *views]))

    def keep(self, view: int, probabilities: NDArray[np.float32]) -> None:
        """Take the outcome float32 [members, classes] of one view."""
        self._probabilities[view] = probabilities
        self._done += 1

    def result(self) -> ImageScores | ImageDecisions | None:
        """What is to be known of the image, once it is."""
        if not self._is_complete:
            return None
        means = {scheme: self._mean(scheme) for scheme in self._weights}
        return ImageScores(self.id, self._label, means, self._passes)

    @property
    def _weights(self) -> Mapping[int, tuple[int, ...]]:
        return self.source.plan.weights

    @property
    def _is_complete(self) -> bool:
        return self._done == len(self._probabilities)

    @property
    def _passes(self) -> int:
        views, members, _ = self._probabilities.shape
        return (views - len(self._open)) * members

    def _mean(self, scheme: int) -> NDArray[np.float64]:
        """float64 [members, classes], added up in crop order."""
        total = np.zeros(self._probabilities.shape[1:])
        for weight, probabilities in zip(self._weights[scheme], self._probabilities, strict=True):
            if weight:
                total += weight * probabilities.astype(np.float64)
        return total / scheme


class DecidedImage(PooledImage):
    """An image that is run only until its place in every row of the table is certain.

    Args:
        image: see `PooledImage`.
        members: see `PooledImage`.
        num_classes: see `PooledImage`.
        decides: the k of every top-k error that is wanted.
    """

    def __init__(self, image: ReadyImage, members: int, num_classes: int, decides: Sequence[int]) -> None:
        super().__init__(image, members, num_classes)
        self._undecided = {(scheme, k) for scheme in self._weights for k in decides}
        self._sums = {scheme: np.zeros((members, num_classes)) for scheme in self._weights}
        self._weight_left = {scheme: float(scheme) for scheme in self._weights}
        # The paper's one-model rule compares members by their top-1 error with one crop.
        self._undecided.add((min(self._weights), 1))
        self._top_k: dict[tuple[int, int], list[bool | None]] = {}

    def keep(self, view: int, probabilities: NDArray[np.float32]) -> None:
        """See `PooledImage.keep`."""
        super().keep(view, probabilities)
        for scheme, weights in self._weights.items():
            if weights[view]:
                self._sums[scheme] += weights[view] * probabilities.astype(np.float64)
                self._weight_left[scheme] -= weights[view]

    def result(self) -> ImageDecisions | None:
        """See `PooledImage.result`."""
        for scheme, k in sorted(self._undecided):
            self._top_k[scheme, k] = self._decided(scheme, k)
        self._undecided = {key for key in self._undecided if None in self._top_k[key]}
        if self._undecided:
            return None
        top_k: dict[int, dict[int, Sequence[bool | None]]] = {scheme: {} for scheme in self._weights}
        for (scheme, k), decisions in self._top_k.items():
            top_k[scheme][k] = decisions
        views, members, _ = self._probabilities.shape
        return ImageDecisions(self.id, self._label, top_k, self._passes, views * members)

    def _decided(self, scheme: int, k: int) -> list[bool | None]:
        left = self._weight_left[scheme]
        if not left:
            # All is in: the same sums, in the same order, as of an image that is run in full.
            return [label_rank(scores, self._label) < k for scores in with_ensemble(self._mean(scheme))]
        sums = self._sums[scheme]
        members = len(sums)
        rows = np.concatenate([sums, sums.sum(axis=0, keepdims=True)]) if members > 1 else sums
        remaining = np.full(len(rows), left)
        remaining[members:] *= members
        return decided_top_k(rows, self._label, remaining, k)
