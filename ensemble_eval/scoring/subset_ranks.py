"""The label ranks in the mean scores of every subset of the members, a block of images at a time. Pure numpy.

The means of 127 subsets of seven members over 1,000 classes take too long for every image. But a class that every
member scores below the label is ahead of it in no subset, and a class that every member scores above the label is
ahead of it in every subset. Only the means of the few other classes are computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import UnavailableError

MAX_MEMBERS = 12

Subset = tuple[int, ...]


def all_subsets(members: int) -> tuple[Subset, ...]:
    """All subsets of the members but the empty one, by size, then by the positions of the members.

    Raises:
        UnavailableError: There are more members than `MAX_MEMBERS`.

    Example:
        >>> all_subsets(3)
        ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    """
    if members > MAX_MEMBERS:
        raise UnavailableError(
            f"{members} members have {2**members - 1} subsets; "
            f"all subsets are formed of up to {MAX_MEMBERS} members"
        )
    positions = range(members)
    return tuple(subset for size in positions for subset in combinations(positions, size + 1))


def subset_ranks(scores: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """The label ranks in the mean scores of every subset, as `label_rank` defines them.

    Float32 scores are added in float64, in the order of the members, as for the rows of `Results.table3` for some
    of the members.

    Args:
        scores: float32 [members, images, classes], softmax or means of it, without NaN.
        labels: [images].

    Returns:
        int32 [subsets, images], subsets in the order of `all_subsets`.

    Raises:
        UnavailableError: There are more members than `MAX_MEMBERS`.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[[0.6, 0.4, 0]], [[0, 0.4, 0.6]]], np.float32)
        >>> subset_ranks(scores, np.array([1]))[:, 0]
        array([1, 1, 0], dtype=int32)
    """
    row_of = {subset: row for row, subset in enumerate(all_subsets(len(scores)))}
    rivals = _rivals_of(scores, labels)
    ranks = np.tile(rivals.always_ahead, (len(row_of), 1))
    if len(rivals.starts):
        for subset, counts in _counts_ahead(rivals):
            ranks[row_of[subset], rivals.images] += counts
    return ranks


@dataclass(frozen=True, eq=False)
class _Rivals:
    """The rivals of the labels, sorted by image: the classes that may be ahead of the label in some subsets only.

    Attributes:
        always_ahead: int32 [images], the number of classes that are ahead of the label in every subset.
        images: [open images], the positions of the images that have rivals.
        starts: [open images], where the rivals of each begin.
        image_of: [rivals], the position of the rival's image among the open images.
        is_lower: [rivals], whether the class has a lower index than the label, and so wins a tie.
        scores: float32 [members, rivals].
        own: float32 [members, open images], the scores of the labels.
    """

    always_ahead: NDArray[np.int32]
    images: NDArray[np.intp]
    starts: NDArray[np.intp]
    image_of: NDArray[np.intp]
    is_lower: NDArray[np.bool_]
    scores: NDArray[np.float32]
    own: NDArray[np.float32]


def _rivals_of(scores: NDArray[np.float32], labels: NDArray[np.integer]) -> _Rivals:
    images = np.arange(len(labels))
    own = scores[:, images, labels]
    some, every = np.zeros(scores.shape[1:], bool), np.ones(scores.shape[1:], bool)
    for of_member, own_of_member in zip(scores, own, strict=True):
        # A class that every member scores higher is higher in every mean. Rounding makes no tie of it, because
        # float32 scores differ in their 24th bit at least, and float64 has 53.
        some |= of_member >= own_of_member[:, None]
        every &= of_member > own_of_member[:, None]
    some &= ~every
    some[images, labels] = False
    image, rival = np.nonzero(some)
    opened, starts, image_of = np.unique(image, return_index=True, return_inverse=True)
    return _Rivals(
        always_ahead=every.sum(axis=1, dtype=np.int32),
        images=opened,
        starts=starts,
        image_of=image_of,
        is_lower=rival < labels[image],
        scores=scores[:, image, rival],
        own=own[:, opened],
    )


def _counts_ahead(rivals: _Rivals) -> Iterator[tuple[Subset, NDArray[np.int32]]]:
    """Each subset, and the number of rivals that are ahead of the label of each open image.

    Each sum is the sum of the subset without its last member and one more term, so that members are added in
    order.
    """
    members = len(rivals.scores)
    nothing = np.zeros(rivals.scores.shape[1]), np.zeros(rivals.own.shape[1])
    # The largest subset is taken first, so that few sums are in memory.
    waiting: list[tuple[Subset, NDArray[np.float64], NDArray[np.float64]]] = [((), *nothing)]
    while waiting:
        subset, scores, own = waiting.pop()
        for member in range(subset[-1] + 1 if subset else 0, members):
            grown = (*subset, member)
            sums, own_sums = scores + rivals.scores[member], own + rivals.own[member]
            yield grown, _ahead(rivals, sums / len(grown), own_sums / len(grown))
            if member + 1 < members:
                waiting.append((grown, sums, own_sums))


def _ahead(rivals: _Rivals, means: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.int32]:
    own_of_rival = own[rivals.image_of]
    is_ahead = means > own_of_rival
    is_ahead |= (means == own_of_rival) & rivals.is_lower
    return np.add.reduceat(is_ahead, rivals.starts, dtype=np.int32)
