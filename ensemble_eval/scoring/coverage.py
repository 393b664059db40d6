"""Coverage: how many objects some proposals find, against the number of proposals (section 8). Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.boxes import Boxes, Objects
from ensemble_eval.scoring.average_precision import overlaps

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""`Coverage.mean` is the mean over these overlaps, as the average recall of COCO is."""


@dataclass(frozen=True)
class Coverage:
    """The shares of objects that the first proposals of their image find.

    Attributes:
        boxes: int64 [budgets], the number of first proposals of each image that count.
        at_half: float64 [budgets], the share of objects that one of these proposals overlaps by half or more.
        mean: float64 [budgets], the mean share over all of `OVERLAPS`.
        objects: The number of objects; shares are NaN if there are none.
        boxes_per_image: The mean number of all proposals of an image.
    """

    boxes: NDArray[np.int64]
    at_half: NDArray[np.float64]
    mean: NDArray[np.float64]
    objects: int
    boxes_per_image: float


class CoverageCount:
    """Counts the objects that proposals find, image by image, without ignored objects.

    Args:
        budgets: Numbers of first proposals of an image that count, each at least 1.
    """

    def __init__(self, budgets: Sequence[int]) -> None:
        self._budgets = budgets
        self._found = np.zeros((len(budgets), len(OVERLAPS)), np.int64)
        self._objects = self._boxes = self._images = 0

    def add(self, shown: Objects, proposals: Boxes) -> None:
        """Take one image: what it shows, and its proposals float64 [boxes, 4], the best first."""
        wanted = shown.boxes[~shown.ignored]
        self._objects += len(wanted)
        self._boxes += len(proposals)
        self._images += 1
        if not len(wanted) or not len(proposals):
            return
        # The best overlap with any of the first proposals, for every number of them.
        best = np.maximum.accumulate(overlaps(proposals, wanted), axis=0)
        for row, budget in enumerate(self._budgets):
            reached = best[min(budget, len(best)) - 1]
            self._found[row] += (reached[:, None] >= np.array(OVERLAPS)[None, :] - 1e-12).sum(axis=0)

    def coverage(self) -> Coverage:
        """The coverage of all images so far."""
        shares = self._found / self._objects if self._objects else np.full(self._found.shape, np.nan)
        return Coverage(
            np.array(self._budgets, np.int64),
            shares[:, 0],
            shares.mean(axis=1),
            self._objects,
            self._boxes / self._images if self._images else 0.0,
        )
