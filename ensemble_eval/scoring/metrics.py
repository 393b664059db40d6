"""Ranks on score vectors. Pure numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.scope import Scope


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


def best_rank(scores: NDArray[np.floating], labels: Sequence[int], counted: NDArray[np.intp] | None = None) -> int:
    """The rank of the best-ranked of some labels, as `label_rank`, perhaps among some of the classes only.

    Args:
        scores: [classes].
        labels: class indices, at least one.
        counted: the class indices that count, ascending; None for all. A label that is not among them is as wrong
            as can be.

    Example:
        >>> scores = np.array([0.1, 0.5, 0.3, 0.1])
        >>> best_rank(scores, [0, 2]), best_rank(scores, [0, 2], np.array([0, 2, 3]))
        (1, 0)
    """
    if counted is None:
        return min(label_rank(scores, label) for label in labels)
    places = np.searchsorted(counted, labels)
    among = [int(place) for place, label in zip(places, labels, strict=True) if label in counted]
    return min((label_rank(scores[counted], place) for place in among), default=len(counted))


def counted_of(scope: Scope) -> NDArray[np.intp] | None:
    """The class indices that labels are ranked among, ascending; None for all."""
    return None if scope.counted_classes is None else np.array(scope.counted_classes, dtype=np.intp)


def top_classes(scores: NDArray[np.floating], k: int = 5) -> NDArray[np.intp]:
    """The k best class indices, best first, equal scores by ascending index: `label_rank`'s order.

    Args:
        scores: [classes].
        k: how many; fewer come back where there are fewer classes.
    """
    return np.argsort(-scores, kind="stable")[:k]
