"""Members whose top-1 decisions are no better than chance while those of others are."""

import math
from collections.abc import Iterator, Sequence

# So many images leave no doubt: with 1,000 classes chance is right on 0.3 of them, and a trained network on 200.
IMAGES = 300
_AT_CHANCE_ABOVE = 1e-3
_BETTER_BELOW = 1e-9
# The confidence of networks with wrong input is lower, and that of networks with wrongly ordered classes is
# higher.
_SURE = 0.3


class ChanceWatch:
    """Counts members' first decisions and names those at chance, once, when there are enough images.

    Args:
        names: Of the members.
        num_classes: Chance is right on one image in so many.

    Example:
        >>> watch = ChanceWatch(["good", "shuffled"], 10)
        >>> sentences = [sentence for _ in range(300) for sentence in watch.add([True, False], [0.9, 0.8])]
        >>> sentences[0][:62]
        'member shuffled is right on 0 of the first 300 images, which i'
    """

    def __init__(self, names: Sequence[str], num_classes: int) -> None:
        self._names = names
        self._num_classes = num_classes
        self._right = [0] * len(names)
        self._sureness = [0.0] * len(names)
        self._images = 0

    def add(self, right: Sequence[bool | None], sureness: Sequence[float] | None) -> Iterator[str]:
        """Count one image.

        Args:
            right: For each member, whether its highest score is that of the label.
            sureness: The highest probability of each member; None if it is not known.

        Yields:
            A sentence about each member at chance, after image number `IMAGES`.
        """
        self._images += 1
        if self._images > IMAGES:
            return
        for member in range(len(self._names)):
            self._right[member] += bool(right[member])
            self._sureness[member] += sureness[member] if sureness is not None else math.nan
        if self._images == IMAGES:
            yield from self._sentences()

    def _sentences(self) -> Iterator[str]:
        by_chance = [chance_of_as_many(right, IMAGES, 1 / self._num_classes) for right in self._right]
        if min(by_chance) > _BETTER_BELOW:
            return
        for name, right, sureness, chance in zip(self._names, self._right, self._sureness, by_chance, strict=True):
            if chance > _AT_CHANCE_ABOVE:
                yield (
                    f"member {name} is right on {right} of the first {IMAGES} images, which is chance, and others "
                    f"are not; {_cause(sureness / IMAGES)}"
                )


def _cause(mean_sureness: float) -> str:
    if math.isnan(mean_sureness):
        return (
            "likely its classes are in another order, or its channels, scale or mean are not those of its training"
        )
    if mean_sureness > _SURE:
        return f"it is sure of itself ({mean_sureness:.2f}), so that likely its classes are in another order"
    return (
        f"it is sure of nothing ({mean_sureness:.2f}), so that likely its channels, scale or mean are not those "
        "of its training, or it is not trained"
    )


def chance_of_as_many(right: int, images: int, rate: float) -> float:
    """The probability that a binomial draw of `images` at `rate` is at least `right`.

    Example:
        >>> round(chance_of_as_many(1, 2, 0.5), 2)
        0.75
    """
    counts = range(right, images + 1)
    return min(1.0, math.fsum(math.comb(images, n) * rate**n * (1 - rate) ** (images - n) for n in counts))
