"""Images that are run only until their outcome in every row of the table is certain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.engine.full_scores import CropProbabilities, with_ensemble
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.scoring.metrics import any_decided_top_k, best_rank

# An image has one crop in each batch, so that none is run after the deciding one; on a GPU, whose batches are
# large, a share of the batch, so that the pool fits into its memory.
_TURNS_PER_BATCH = 32


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


class DecidedImage(PooledImage[ImageDecisions]):
    """An image that all members run until the ensemble's outcome is certain, then each alone until its own is.

    Args:
        image, members: see `PooledImage`.
        num_classes: length of a score vector.
        decides: the k of every top-k error that is wanted.
        labels: all that count as right; None for the image's own label.
        counted: the class indices that labels are ranked among, ascending; None for all.
    """

    def __init__(
        self,
        image: ReadyImage,
        members: int,
        num_classes: int,
        decides: Sequence[int],
        labels: Sequence[int] | None = None,
        counted: NDArray[np.intp] | None = None,
    ) -> None:
        super().__init__(image, members)
        self._labels = (image.label,) if labels is None else tuple(labels)
        self._counted = counted
        self._members = members
        self._weights = image.source.plan.weights
        self._probabilities = CropProbabilities(image.source.plan, members, num_classes)
        self._sums = {scheme: np.zeros((members, num_classes)) for scheme in self._weights}
        self._weight_left = {scheme: np.full(members, float(scheme)) for scheme in self._weights}
        # The paper's one-model rule compares members by their top-1 error with one crop.
        wanted = {(scheme, k) for scheme in self._weights for k in decides} | {(min(self._weights), 1)}
        self._top_k: dict[tuple[int, int], list[bool | None]] = {
            key: [None] * len(self._rows) for key in sorted(wanted)
        }

    def turn(self, batch_size: int) -> int:
        """See `PooledImage`: few, because each may decide."""
        return max(1, batch_size // _TURNS_PER_BATCH)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """See `PooledImage`."""
        self._probabilities.keep(view, members, probabilities)
        for scheme, weights in self._weights.items():
            if weights[view]:
                self._sums[scheme][list(members)] += weights[view] * probabilities.astype(np.float64)
                self._weight_left[scheme][list(members)] -= weights[view]

    def decide(self) -> None:
        """See `PooledImage`: decide what is certain by now, and run no member any more whose rows all are."""
        for (scheme, k), known in self._top_k.items():
            if None in known:
                latest = self._decided(scheme, k)
                known[:] = [now if before is None else before for before, now in zip(known, latest, strict=True)]
        open_rows = self._open_rows()
        if self._members > 1 and self._members not in open_rows:
            self.open.part(open_rows)

    def result(self) -> ImageDecisions | None:
        """See `PooledImage`."""
        if self._open_rows():
            return None
        top_k: dict[int, dict[int, Sequence[bool | None]]] = {scheme: {} for scheme in self._weights}
        for (scheme, k), decisions in self._top_k.items():
            top_k[scheme][k] = decisions
        all_passes = len(self.image.source.plan.views) * self._members
        return ImageDecisions(self.image.id, self.image.label, top_k, self.open.passes, all_passes)

    @property
    def _rows(self) -> range:
        """Every member and, with several, their ensemble."""
        return range(self._members + 1 if self._members > 1 else 1)

    def _open_rows(self) -> list[int]:
        """Those of which something that is wanted is not certain yet."""
        return [row for row in self._rows if any(known[row] is None for known in self._top_k.values())]

    def _decided(self, scheme: int, k: int) -> list[bool | None]:
        left, sums = self._weight_left[scheme], self._sums[scheme]
        if self._members > 1:
            left, sums = np.append(left, left.sum()), np.append(sums, sums.sum(axis=0, keepdims=True), axis=0)
        decisions = any_decided_top_k(sums, self._labels, left, k, self._counted)
        known = self._top_k[scheme, k]
        if complete := [row for row in self._rows if left[row] == 0 and known[row] is None]:
            # All is in: the same sums, in the same order, as of full scores.
            scores = with_ensemble(self._probabilities.mean(scheme))
            for row in complete:
                decisions[row] = best_rank(scores[row], self._labels, self._counted) < k
        return decisions
