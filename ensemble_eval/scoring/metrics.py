"""Label ranks in score vectors, and decisions that are certain before all scores are in. Pure numpy.

Every pass adds one softmax vector to a sum, so it adds a mass of 1 and takes none away. The passes to come can
lift the label, or its rivals, by that mass at most. Early exit rests on this.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.datasets.scope import Scope

# A float32 softmax over a thousand classes adds up to 1 within a millionth, and a sum of a thousand of them in
# another order differs in its last bits. Both may only ever delay a decision.
_MASS_PER_PASS = 1 + 1e-5
_SUM_ROUNDING = 1e-9


def label_rank(scores: NDArray[np.floating], label: int) -> int:
    """The number of classes with a higher score than the label, or with an equal score and a lower index.

    Top-k is right if the rank is below k. Scores with NaN are never right: the rank is then the number of classes.

    Args:
        scores: [classes].
        label: A class index.

    Example:
        >>> label_rank(np.array([0.1, 0.7, 0.1, 0.1]), 2)
        2
    """
    if bool(np.isnan(scores).any()):
        return len(scores)
    own = scores[label]
    return int(np.count_nonzero(scores > own) + np.count_nonzero(scores[:label] == own))


def best_rank(scores: NDArray[np.floating], labels: Sequence[int], counted: NDArray[np.intp] | None = None) -> int:
    """The rank of the best-ranked of some labels, as of `label_rank`, among all or some of the classes.

    Args:
        scores: [classes].
        labels: Class indices, at least one.
        counted: The class indices that labels are ranked among, ascending; None for all. A label that is not among
            them is behind all classes.

    Example:
        >>> scores = np.array([0.1, 0.5, 0.3, 0.1])
        >>> best_rank(scores, [0, 2]), best_rank(scores, [0, 2], np.array([0, 2, 3]))
        (1, 0)
    """
    if counted is None:
        return min(label_rank(scores, label) for label in labels)
    among = _positions(labels, counted)
    return min((label_rank(scores[counted], position) for position in among), default=len(counted))


def with_ensemble(by_member: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the mean of several members to their scores float64 [members, classes], as one more row."""
    if len(by_member) == 1:
        return by_member
    return np.concatenate([by_member, by_member.mean(axis=0, keepdims=True)])


def counted_of(scope: Scope) -> NDArray[np.intp] | None:
    """The class indices that labels are ranked among, ascending; None for all."""
    return None if scope.counted_classes is None else np.array(scope.counted_classes, dtype=np.intp)


def top_classes(scores: NDArray[np.floating], k: int = 5) -> NDArray[np.intp]:
    """The k best class indices, best first, with equal scores by ascending index, as for `label_rank`.

    Args:
        scores: [classes].
        k: The number of classes; all of them if there are fewer.
    """
    return np.argsort(-scores, kind="stable")[:k]


def decided_top_k(
    sums: NDArray[np.float64], label: int, remaining: NDArray[np.float64], k: int
) -> list[bool | None]:
    """Whether the label will be among the k best classes of each final sum; None if that is still open.

    It certainly will be once lifting its k strongest rivals above it takes more than the mass to come. It
    certainly will not be once even all that mass leaves it below the k-th strongest.

    Args:
        sums: float64 [rows, classes], the sums of the softmax vectors so far.
        label: A class index.
        remaining: float64 [rows], the number of softmax vectors to come for each.
        k: At least 1.
    """
    classes = sums.shape[1]
    if classes <= k:
        return [True] * len(sums)
    mass = remaining * _MASS_PER_PASS + _SUM_ROUNDING
    own = sums[:, label]
    rivals = np.delete(sums, label, axis=1)
    strongest = np.partition(rivals, classes - 1 - k, axis=1)[:, -k:]
    to_lift = np.maximum(own[:, None] - strongest, 0).sum(axis=1)
    is_in = to_lift > mass
    is_out = own + mass < strongest.min(axis=1)
    return [True if is_in[row] else False if is_out[row] else None for row in range(len(sums))]


def any_decided_top_k(
    sums: NDArray[np.float64],
    labels: Sequence[int],
    remaining: NDArray[np.float64],
    k: int,
    counted: NDArray[np.intp] | None = None,
) -> list[bool | None]:
    """As `decided_top_k`, for images that are right if any of several labels is among the k best.

    Args:
        sums, remaining, k: As of `decided_top_k`.
        labels: Class indices, at least one.
        counted: The class indices that labels are ranked among, ascending; None for all. The mass to come may go
            to any of them, so the same rule holds among some classes. A label that is not among them is out.
    """
    if counted is not None:
        sums, labels = sums[:, counted], _positions(labels, counted)
    by_label = [decided_top_k(sums, label, remaining, k) for label in labels]
    of_rows = zip(*by_label, strict=True) if by_label else [(False,)] * len(sums)
    return [True if True in of_row else None if None in of_row else False for of_row in of_rows]


def _positions(labels: Sequence[int], counted: NDArray[np.intp]) -> list[int]:
    """The positions of labels among the counted classes, without labels that are not among them."""
    return [int(np.searchsorted(counted, label)) for label in labels if label in counted]
