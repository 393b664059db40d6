"""Greedy suppression of boxes that overlap a better one of their class (R-CNN, section 2.2)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from ensemble_eval.datasets.boxes import Boxes

# R-CNN's threshold is learnt; this is the one that its code ships.
MOST_OVERLAP = 0.3


def suppress(boxes: Boxes, scores: NDArray[np.float64], most_overlap: float = MOST_OVERLAP) -> NDArray[np.int64]:
    """Which boxes of one class to keep, the best first.

    A box is left out if it overlaps one that is kept by more than `most_overlap`. Boxes of equal scores keep their
    order.

    Args:
        boxes: float64 [boxes, 4].
        scores: float64 [boxes].
        most_overlap: intersection over union.

    Returns:
        int64 [kept], indices into `boxes`.
    """
    # torchvision sorts by score itself, and leaves open which of two equal ones comes first.
    order = np.argsort(-scores, kind="stable")
    places = torch.arange(len(order), 0, -1, dtype=torch.float64)
    kept = nms(torch.from_numpy(boxes[order]), places, most_overlap).numpy()
    indices: NDArray[np.int64] = order[kept]
    return indices
