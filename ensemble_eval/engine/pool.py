"""One image in the engine's pool: which of its views are still to be run by whom, and what is known so far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.pixels import CropSource
from ensemble_eval.scoring.decisions import decided_top_k
from ensemble_eval.scoring.metrics import label_rank


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
        passes: crops that went through members for it, times the members that they went through.
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


class Strand:
    """Views of one image that are still to be run, and the members that all of them go through.

    Args:
        image: whose views.
        members: indices into the ensemble.
        views: in crop order.
    """

    def __init__(self, image: "PooledImage", members: Sequence[int], views: Iterable[int]) -> None:
        self.image = image
        self.members = tuple(members)
        self._open = dict.fromkeys(views)

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
        self.image.passes += len(self.members)

    def give_back(self, views: Sequence[int]) -> None:
        """Take note that views did not make it through their batch."""
        self._open = dict.fromkeys(sorted([*self._open, *views]))
        self.image.passes -= len(views) * len(self.members)


class PooledImage:
    """An image all of whose views are run by all members.

    Args:
        image: with its pixels where batches are put together.
        members: how many.
        num_classes: length of a score vector.

    Attributes:
        id, source, position: of the image.
        scheme: the largest that is wanted.
        strands: what is still to be run.
        passes: crops that went into a batch for it, times the members of that batch.
    """

    def __init__(self, image: ReadyImage, members: int, num_classes: int) -> None:
        self.id = image.id
        self.source = image.source
        self.position = image.position
        self._label = image.label
        self.scheme = max(image.source.plan.weights)
        views = len(image.source.plan.views)
        self.strands = [Strand(self, range(members), range(views))]
        self.passes = 0
        self._outcomes_missing = views * members
        self._probabilities = np.zeros((views, members, num_classes), dtype=np.float32)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Take the outcome float32 [len(members), classes] of one view."""
        self._probabilities[view, list(members)] = probabilities
        self._outcomes_missing -= len(members)

    def result(self) -> ImageScores | ImageDecisions | None:
        """What is to be known of the image, once it is."""
        if self._outcomes_missing:
            return None
        means = {scheme: self._mean(scheme) for scheme in self._weights}
        return ImageScores(self.id, self._label, means, self.passes)

    @property
    def _weights(self) -> Mapping[int, tuple[int, ...]]:
        return self.source.plan.weights

    def _mean(self, scheme: int) -> NDArray[np.float64]:
        """float64 [members, classes], added up in crop order."""
        total = np.zeros(self._probabilities.shape[1:])
        for weight, probabilities in zip(self._weights[scheme], self._probabilities, strict=True):
            if weight:
                total += weight * probabilities.astype(np.float64)
        return total / scheme


class DecidedImage(PooledImage):
    """An image that is run only until its place in every row of the table is certain.

    All members run it until the ensemble's place is certain, then each goes on alone until its own is.

    Args:
        image: see `PooledImage`.
        members: see `PooledImage`.
        num_classes: see `PooledImage`.
        decides: the k of every top-k error that is wanted.
    """

    def __init__(self, image: ReadyImage, members: int, num_classes: int, decides: Sequence[int]) -> None:
        super().__init__(image, members, num_classes)
        self._members = members
        self._sums = {scheme: np.zeros((members, num_classes)) for scheme in self._weights}
        self._weight_left = {scheme: np.full(members, float(scheme)) for scheme in self._weights}
        # The paper's one-model rule compares members by their top-1 error with one crop.
        wanted = {(scheme, k) for scheme in self._weights for k in decides} | {(min(self._weights), 1)}
        self._top_k: dict[tuple[int, int], list[bool | None]] = {
            key: [None] * len(self._rows) for key in sorted(wanted)
        }

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """See `PooledImage.keep`."""
        super().keep(view, members, probabilities)
        for scheme, weights in self._weights.items():
            if weights[view]:
                self._sums[scheme][list(members)] += weights[view] * probabilities.astype(np.float64)
                self._weight_left[scheme][list(members)] -= weights[view]

    def result(self) -> ImageDecisions | None:
        """See `PooledImage.result`; afterwards no strand is left of a member that is not needed any more."""
        for (scheme, k), decisions in self._top_k.items():
            if None in decisions:
                latest = self._decided(scheme, k)
                self._top_k[scheme, k] = [
                    now if before is None else before for before, now in zip(decisions, latest, strict=True)
                ]
        open_rows = [row for row in self._rows if None in {decisions[row] for decisions in self._top_k.values()}]
        if not open_rows:
            return self._decisions()
        if self._members > 1 and self._members not in open_rows:
            self._go_on_alone(open_rows)
        return None

    @property
    def _rows(self) -> range:
        """Every member and, with several, their ensemble."""
        return range(self._members + 1 if self._members > 1 else 1)

    def _go_on_alone(self, members: Sequence[int]) -> None:
        self.strands = [
            strand if strand.members == (member,) else Strand(self, [member], strand.open_views())
            for strand in self.strands
            for member in strand.members
            if member in members
        ]

    def _decisions(self) -> ImageDecisions:
        top_k: dict[int, dict[int, Sequence[bool | None]]] = {scheme: {} for scheme in self._weights}
        for (scheme, k), decisions in self._top_k.items():
            top_k[scheme][k] = decisions
        views, members, _ = self._probabilities.shape
        return ImageDecisions(self.id, self._label, top_k, self.passes, views * members)

    def _decided(self, scheme: int, k: int) -> list[bool | None]:
        left, sums = self._weight_left[scheme], self._sums[scheme]
        if self._members > 1:
            left, sums = np.append(left, left.sum()), np.append(sums, sums.sum(axis=0, keepdims=True), axis=0)
        decisions = decided_top_k(sums, self._label, left, k)
        known = self._top_k[scheme, k]
        if complete := [row for row in self._rows if left[row] == 0 and known[row] is None]:
            # All is in: the same sums, in the same order, as of an image that is run in full.
            scores = with_ensemble(self._mean(scheme))
            for row in complete:
                decisions[row] = label_rank(scores[row], self._label) < k
        return decisions
