"""Finds members that are no better than chance while others are, which points to wrong input or class order."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

# After this many images it is clear whether a member is no better than chance. With 1,000 classes, guessing is
# expected to get 0.3 images right, and a trained network about 200.
CHANCE_IMAGES = 300
# Bounds on the probability that guessing gets at least as many images right as a member. Above the first, the
# member is no better than chance; at or below the second, it is clearly better.
_AT_CHANCE_ABOVE = 1e-3
_BETTER_THAN_CHANCE_BELOW = 1e-9
# The mean top-1 probability is lower for networks with wrong input, and higher for networks with wrongly ordered
# classes.
_CONFIDENT_ABOVE = 0.3


class ChanceWatch:
    """Warns about members whose top-1 decisions are no better than chance, if another member is clearly better.

    It counts the correct decisions on the first `CHANCE_IMAGES` images, and then warns once.

    Args:
        names: The names of the members.
        num_classes: The number of classes; guessing is right on one image in `num_classes`.

    Example:
        >>> watch = ChanceWatch(["good", "shuffled"], 10)
        >>> sentences = [sentence for _ in range(300) for sentence in watch.add([True, False], [0.9, 0.8])]
        >>> sentences[0][:62]
        'member shuffled is right on 0 of the first 300 images, which i'
    """

    def __init__(self, names: Sequence[str], num_classes: int) -> None:
        self._names, self._num_classes, self._images = names, num_classes, 0
        self._right, self._sureness = np.zeros(len(names), int), np.zeros(len(names))

    def add(self, right: Sequence[bool | None], sureness: Sequence[float] | None) -> Iterator[str]:
        """Count one image.

        Args:
            right: For each member, whether its top-1 class is the label; None counts as wrong. A value for the
                whole ensemble may come last; it is ignored.
            sureness: The highest probability of each member; None if it is not known.

        Yields:
            After `CHANCE_IMAGES` images, one sentence for each member that is no better than chance.
        """
        self._images += 1
        if self._images > CHANCE_IMAGES:
            return
        self._right += np.array(right[: len(self._names)], bool)
        self._sureness += math.nan if sureness is None else sureness
        if self._images == CHANCE_IMAGES:
            yield from self._sentences()

    def _sentences(self) -> Iterator[str]:
        rate = 1 / self._num_classes
        tail_probabilities = [chance_of_as_many(right, CHANCE_IMAGES, rate) for right in self._right.tolist()]
        if min(tail_probabilities) > _BETTER_THAN_CHANCE_BELOW:
            return
        mean_sureness = self._sureness / CHANCE_IMAGES
        for name, right, sureness, chance in zip(
            self._names, self._right, mean_sureness, tail_probabilities, strict=True
        ):
            if chance > _AT_CHANCE_ABOVE:
                yield (
                    f"member {name} is right on {right} of the first {CHANCE_IMAGES} images, which is chance, and "
                    f"others are not; {_cause(float(sureness))}"
                )


def _cause(mean_sureness: float) -> str:
    if math.isnan(mean_sureness):
        return (
            "likely its classes are in another order, or its channels, scale or mean are not those of its training"
        )
    if mean_sureness > _CONFIDENT_ABOVE:
        return f"it is sure of itself ({mean_sureness:.2f}), so that likely its classes are in another order"
    return (
        f"it is sure of nothing ({mean_sureness:.2f}), so that likely its channels, scale or mean are not those "
        "of its training, or it is not trained"
    )


def chance_of_as_many(right: int, images: int, rate: float) -> float:
    """The probability of at least `right` successes in `images` independent trials with probability `rate`.

    Example:
        >>> round(chance_of_as_many(1, 2, 0.5), 2)
        0.75
    """
    counts = range(right, images + 1)
    return min(1.0, math.fsum(math.comb(images, n) * rate**n * (1 - rate) ** (images - n) for n in counts))
