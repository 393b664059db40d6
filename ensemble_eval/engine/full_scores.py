"""Images all of whose views are run by all members: their full scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.schemes import CropPlan
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.scoring.crop_ranks import CropRanks, crop_ranks


@dataclass(frozen=True)
class ImageScores:
    """One image's full scores.

    Attributes:
        id: of the image.
        label: its class index.
        mean_softmax: for each scheme, float64 [members, classes], the mean over the scheme's crops.
        passes: crops that went through members for it, times members.
        crop_ranks: what other means would have decided, where that was asked for.
    """

    id: str
    label: int
    mean_softmax: Mapping[int, NDArray[np.float64]]
    passes: int
    crop_ranks: CropRanks | None = None

    @property
    def all_passes(self) -> int:
        """As of `ImageDecisions`: nothing was saved."""
        return self.passes


def with_ensemble(by_member: NDArray[np.float64]) -> NDArray[np.float64]:
    """Members' scores float64 [members, classes] and, with several, their mean as one more row."""
    if len(by_member) == 1:
        return by_member
    return np.concatenate([by_member, by_member.mean(axis=0, keepdims=True)])


class CropProbabilities:
    """What members say of every view of one image, and their means over the crops of a scheme.

    Args:
        plan: of the image.
        members: how many.
        num_classes: length of a score vector.
    """

    def __init__(self, plan: CropPlan, members: int, num_classes: int) -> None:
        self._weights = plan.weights
        self._view_of_crop = list(plan.view_of_crop)
        self._by_view = np.zeros((len(plan.views), members, num_classes), dtype=np.float32)
        self._missing = len(plan.views) * members

    @property
    def complete(self) -> bool:
        """Whether every member's outcome of every view is in."""
        return not self._missing

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Take float32 [len(members), classes] of one view."""
        self._by_view[view, list(members)] = probabilities
        self._missing -= len(members)

    def mean(self, scheme: int) -> NDArray[np.float64]:
        """float64 [members, classes], added up in crop order."""
        total = np.zeros(self._by_view.shape[1:])
        for weight, probabilities in zip(self._weights[scheme], self._by_view, strict=True):
            if weight:
                total += weight * probabilities.astype(np.float64)
        return total / scheme

    def by_crop(self) -> NDArray[np.float32]:
        """float32 [crops, members, classes], in the crop order; a view that is several crops repeats."""
        return self._by_view[self._view_of_crop]


class ScoredImage(PooledImage[ImageScores]):
    """An image of which full scores are wanted.

    Args:
        image, members: see `PooledImage`.
        num_classes: length of a score vector.
        with_crop_ranks: whether its result has `crop_ranks`.
    """

    def __init__(
        self, image: ReadyImage, members: int, num_classes: int, *, with_crop_ranks: bool = False
    ) -> None:
        super().__init__(image, members)
        self._with_crop_ranks = with_crop_ranks
        self._probabilities = CropProbabilities(image.source.plan, members, num_classes)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Keep the probabilities until all are there."""
        self._probabilities.keep(view, members, probabilities)

    def result(self) -> ImageScores | None:
        """The mean of every scheme, once all probabilities are there."""
        if not self._probabilities.complete:
            return None
        means = {scheme: self._probabilities.mean(scheme) for scheme in self.image.source.plan.weights}
        ranks = (
            crop_ranks(self._probabilities.by_crop(), means, self.image.label) if self._with_crop_ranks else None
        )
        return ImageScores(self.image.id, self.image.label, means, self.open.passes, ranks)
