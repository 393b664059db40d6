"""Early exit: images that are run only until every row of the table has a certain decision about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.engine.full_scores import CropProbabilities
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.scoring.metrics import any_decided_top_k, best_rank, with_ensemble

# The batches of a CPU are small: each takes one crop of an image, so that no crop runs after the deciding one. The
# batches of a GPU are large: each takes several crops of an image, so that the pool fits into memory.
_SHARES_OF_BATCH = 32


@dataclass(frozen=True)
class ImageDecisions:
    """The result of one image with early exit: decisions without scores.

    Attributes:
        id: The id of the image.
        label: The class index of the image.
        top_k: For each scheme and each k, whether the label is among the k best classes: for every member and,
            with several members, for their mean, which is last. None if that is not known and was not asked for.
        passes: The number of passes that were run for the image.
        all_passes: The number of passes that full scores would take.
    """

    id: str
    label: int
    top_k: Mapping[int, Mapping[int, Sequence[bool | None]]]
    passes: int
    all_passes: int


class DecidedImage(PooledImage[ImageDecisions]):
    """An image that all members run until the ensemble's decisions are certain, then each until its own are.

    Args:
        image: As in `PooledImage`.
        members: The number of members of the ensemble.
        num_classes: The length of a score vector.
        decides: The values of k for which top-k decisions are wanted.
        labels: All labels that count as right; None for the image's own label.
        counted: The class indices that the labels are ranked among, ascending; None for all classes.
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
        super().__init__(image)
        self._labels = (image.label,) if labels is None else tuple(labels)
        self._counted = counted
        self._members = members
        # A row for every member and, with several members, one for their ensemble.
        self._rows = range(members + 1 if members > 1 else 1)
        self._probabilities = CropProbabilities(image.source.plan, members, num_classes)
        schemes = image.source.plan.schemes
        self._sums = {scheme: np.zeros((members, num_classes)) for scheme in schemes}
        self._weight_left = {scheme: np.full(members, float(scheme)) for scheme in schemes}
        # The paper's one-model rule compares members by their top-1 error with the fewest crops.
        wanted = {scheme: set(decides) for scheme in schemes}
        wanted[schemes[0]] = {*decides, 1}
        self._top_k: dict[int, dict[int, list[bool | None]]] = {
            scheme: {k: [None] * len(self._rows) for k in sorted(ks)} for scheme, ks in wanted.items()
        }

    def views_per_batch(self, batch_size: int) -> int:
        """Return a small share of the batch, because each crop may be the deciding one."""
        return max(1, batch_size // _SHARES_OF_BATCH)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Add the probabilities to the sums of every scheme that has the view."""
        self._probabilities.keep(view, members, probabilities)
        group = self.image.source.plan.group_of(view)
        for scheme, weights in group.weights.items():
            if weight := weights[view - group.views.start]:
                self._sums[scheme][list(members)] += weight * probabilities.astype(np.float64)
                self._weight_left[scheme][list(members)] -= weight

    def decide(self) -> None:
        """Decide what is certain by now; once the ensemble is certain, let only the uncertain members continue."""
        for scheme, by_k in self._top_k.items():
            for k, known in by_k.items():
                if None in known:
                    latest = zip(known, self._decided(scheme, k), strict=True)
                    known[:] = [now if before is None else before for before, now in latest]
        open_rows = self._open_rows()
        if self._members > 1 and self._members not in open_rows:
            self.open.part(open_rows)

    def result(self) -> ImageDecisions | None:
        """Return the decisions once all of them are certain; until then None."""
        if self._open_rows():
            return None
        all_passes = self.image.source.plan.passes
        return ImageDecisions(self.image.id, self.image.label, self._top_k, self.open.passes, all_passes)

    def _open_rows(self) -> list[int]:
        """Return the rows with a wanted decision that is not certain yet."""
        known = [decisions for by_k in self._top_k.values() for decisions in by_k.values()]
        return [row for row in self._rows if any(decisions[row] is None for decisions in known)]

    def _decided(self, scheme: int, k: int) -> list[bool | None]:
        left, sums = self._weight_left[scheme], self._sums[scheme]
        if self._members > 1:
            left, sums = np.append(left, left.sum()), np.append(sums, sums.sum(axis=0, keepdims=True), axis=0)
        decisions = any_decided_top_k(sums, self._labels, left, k, self._counted)
        known = self._top_k[scheme][k]
        if complete := [row for row in self._rows if left[row] == 0 and known[row] is None]:
            # All probabilities are there: decide from the same sums, in the same order, as with full scores.
            scores = with_ensemble(self._probabilities.mean(scheme))
            for row in complete:
                decisions[row] = best_rank(scores[row], self._labels, self._counted) < k
        return decisions
