"""Coverage: how many objects some proposals find, against the number of proposals (section 8). Pure numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes, Objects
from ensemble_eval.scoring.average_precision import overlaps

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""`Coverage.mean` is the mean over these overlaps, as the average recall of COCO is."""


class Coverage:
    """The shares of objects that the first proposals of their image find, without ignored objects.

    Args:
        budgets: Numbers of first proposals of an image that count, each at least 1.

    Attributes:
        budgets: As above.
        objects: The number of objects; shares are NaN if there are none.
    """

    def __init__(self, budgets: Sequence[int]) -> None:
        self.budgets, self.objects = budgets, 0
        self._found = np.zeros((len(budgets), len(OVERLAPS)), np.int64)
        self._boxes = self._images = 0

    def add(self, shown: Objects, proposals: Boxes) -> None:
        """Take one image: what it shows, and its proposals float64 [boxes, 4], the best first."""
        wanted = shown.boxes[~shown.ignored]
        self.objects += len(wanted)
        self._boxes += len(proposals)
        self._images += 1
        if not len(wanted) or not len(proposals):
            return
        # The best overlap with any of the first proposals, for every number of them.
        best = np.maximum.accumulate(overlaps(proposals, wanted), axis=0)
        for row, budget in enumerate(self.budgets):
            reached = best[min(budget, len(best)) - 1]
            self._found[row] += (reached[:, None] >= np.array(OVERLAPS)[None, :] - 1e-12).sum(axis=0)

    @property
    def at_half(self) -> NDArray[np.float64]:
        """The share of objects that one of these proposals overlaps by half or more, float64 [budgets]."""
        return self._shares[:, 0]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean share over all of `OVERLAPS`, float64 [budgets]."""
        mean: NDArray[np.float64] = self._shares.mean(axis=1)
        return mean

    @property
    def boxes_per_image(self) -> float:
        """The mean number of all proposals of an image."""
        return self._boxes / self._images if self._images else 0.0

    @property
    def _shares(self) -> NDArray[np.float64]:
        return self._found / self.objects if self.objects else np.full(self._found.shape, np.nan)
