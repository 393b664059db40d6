"""Ranks on score vectors. Pure numpy."""

import numpy as np
from numpy.typing import NDArray


def label_rank(scores: NDArray[np.floating], label: int) -> int:
    """How many classes stand before the label: those scored higher, and equal ones with a lower index.

    Top-k is right when the rank is below k. NaN never counts as right: then the rank is the class count.

    Args:
        scores: [classes].
        label: class index.

    Example:
        >>> label_rank(np.array([0.1, 0.7, 0.1, 0.1]), 2)
        2
    """
    if bool(np.isnan(scores).any()):
        return len(scores)
    own = scores[label]
    return int(np.count_nonzero(scores > own) + np.count_nonzero(scores[:label] == own))


def top_classes(scores: NDArray[np.floating], k: int = 5) -> NDArray[np.intp]:
    """The k best class indices, best first, equal scores by ascending index: `label_rank`'s order.

    Args:
        scores: [classes].
        k: how many; fewer come back where there are fewer classes.
    """
    return np.argsort(-scores, kind="stable")[:k]
