"""Full scores: images whose views are all run by all members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops.plan import CropPlan, ViewGroup
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.scoring.crop_ranks import CropGroup, CropRanks, crop_ranks
from ensemble_eval.tables.formats import Displayed


@dataclass(frozen=True, repr=False)
class ImageScores(Displayed):
    """One image's full scores.

    Attributes:
        id: The id of the image.
        label: The class index of the image.
        mean_softmax: For each scheme, float64 [members, classes]: the mean softmax over the scheme's crops.
        passes: The number of passes that were run for the image.
        crop_ranks: The label ranks with other means over crops; None if they were not asked for.
    """

    id: str
    label: int
    mean_softmax: Mapping[int, NDArray[np.float64]]
    passes: int
    crop_ranks: CropRanks | None = None

    def _facts(self) -> dict[str, object]:
        members, classes = next(iter(self.mean_softmax.values())).shape
        shape = {"crops": tuple(self.mean_softmax), "members": members, "classes": classes}
        return {"id": self.id, "label": self.label, **shape}

    @property
    def all_passes(self) -> int:
        """The number of passes that full scores take, as in `ImageDecisions`; here it is `passes`."""
        return self.passes


class CropProbabilities:
    """The probabilities of every view of one image, by member, and their means over the crops of a scheme.

    Args:
        plan: The crops of the image.
        members: The number of members.
        num_classes: The length of a score vector.
    """

    def __init__(self, plan: CropPlan, members: int, num_classes: int) -> None:
        self._plan, self._shape = plan, (members, num_classes)
        self._by_view = np.zeros((len(plan.views), members, num_classes), dtype=np.float32)
        self._missing = plan.passes

    @property
    def complete(self) -> bool:
        """Whether the probabilities of every view and every member are there."""
        return not self._missing

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Copy the probabilities float32 [len(members), classes] of one view."""
        self._by_view[view, list(members)] = probabilities
        self._missing -= len(members)

    def mean(self, scheme: int) -> NDArray[np.float64]:
        """Return the mean over the crops of a scheme, float64 [members, classes], summed in crop order."""
        total = np.zeros(self._shape)
        for group in self._plan.groups:
            members = self._rows_of(group)
            for weight, view in zip(group.weights[scheme], group.views, strict=True):
                if weight:
                    total[members] += weight * self._by_view[view, members].astype(np.float64)
        return total / scheme

    def by_crop(self) -> NDArray[np.float32]:
        """Return float32 [crops, members, classes] in crop order, with a view repeated for each of its crops."""
        by_crop = np.empty((self._plan.crops, *self._shape), dtype=np.float32)
        for group in self._plan.groups:
            members = self._rows_of(group)
            by_crop[:, members] = self._by_view[list(group.view_of_crop)][:, members]
        return by_crop

    def _rows_of(self, group: ViewGroup) -> slice | list[int]:
        # A slice copies nothing.
        return slice(None) if len(self._plan.groups) == 1 else list(group.members)


class ScoredImage(PooledImage[ImageScores]):
    """An image whose result is its full scores.

    Args:
        image: As in `PooledImage`.
        members: The number of members of the ensemble.
        num_classes: The length of a score vector.
        crop_groups: The groups of crops for `crop_ranks`; None to leave that out.
    """

    def __init__(
        self, image: ReadyImage, members: int, num_classes: int, crop_groups: Sequence[CropGroup] | None = None
    ) -> None:
        super().__init__(image)
        self._crop_groups = crop_groups
        self._probabilities = CropProbabilities(image.source.plan, members, num_classes)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Copy the probabilities of one view."""
        self._probabilities.keep(view, members, probabilities)

    def result(self) -> ImageScores | None:
        """Return the mean of every scheme once all probabilities are there; until then None."""
        if not self._probabilities.complete:
            return None
        means = {scheme: self._probabilities.mean(scheme) for scheme in self.image.source.plan.schemes}
        ranks = (
            None
            if self._crop_groups is None
            else crop_ranks(self._probabilities.by_crop(), means, self.image.label, self._crop_groups)
        )
        return ImageScores(self.image.id, self.image.label, means, self.open.passes, ranks)
