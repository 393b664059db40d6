"""When the outcome of an image is certain although passes are still to come: what runs until decided rest on.

Every pass adds one softmax vector, so it adds a mass of 1 and takes none away. What is still to come can
lift the label's rivals, or the label itself, by that mass at most. Pure numpy.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A float32 softmax over a thousand classes adds up to 1 within a millionth, and a sum of a thousand of them in
# another order differs in its last bits. Both may only ever delay a decision.
_MASS_PER_PASS = 1 + 1e-5
_SUM_ROUNDING = 1e-9


def decided_top_k(
    sums: NDArray[np.float64], label: int, remaining: NDArray[np.float64], k: int
) -> list[bool | None]:
    """Whether the label will be among the k best classes of each final sum; None where that is still open.

    It will be, for certain, once lifting its k strongest rivals above it takes more than the mass to come;
    it will not be once even all that mass leaves it below the k-th strongest.

    Args:
        sums: float64 [rows, classes], the softmax vectors that are in, added up.
        label: class index.
        remaining: float64 [rows], how many softmax vectors are still to come for each.
        k: at least 1.
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
        sums: see `decided_top_k`.
        labels: class indices, at least one.
        remaining: see `decided_top_k`.
        k: see `decided_top_k`.
        counted: the class indices that labels are ranked among, ascending; None for all. The mass to come may go
            to any of them, so that what is certain among some classes follows from the same rule. A label
            that is not among them is out.
    """
    among = list(labels)
    if counted is not None:
        sums = sums[:, counted]
        among = [int(np.searchsorted(counted, label)) for label in labels if label in counted]
    by_label = [decided_top_k(sums, label, remaining, k) for label in among]
    return (
        [_any(label_by_label) for label_by_label in zip(*by_label, strict=True)]
        if by_label
        else [False] * len(sums)
    )


def _any(decisions: Sequence[bool | None]) -> bool | None:
    if True in decisions:
        return True
    return None if None in decisions else False
