"""The assignment of crops to the rows of batches."""

import math
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from ensemble_eval.engine.pool import PooledImage

Result = TypeVar("Result")

# A slot is a set of rows of a batch with the same alignment: 16 rows of the smallest activation are whole cache
# lines.
_MAX_SLOTS = 16


def batches_needed(images: int, scheme: int, size: int) -> int:
    """Count the batches that the crops of consecutive images take; the last ones may be filled only in part.

    Args:
        images: The number of images, from the first image of a data set on.
        scheme: The number of crops of each image.
        size: The number of rows of a batch.
    """
    slots = math.gcd(size, _MAX_SLOTS)
    rows = [0] * slots
    for position in range(min(images, slots)):
        alike = len(range(position, images, slots))
        for view in range(scheme):
            rows[(_first_slot(position, scheme, slots) + view) % slots] += alike
    return max(math.ceil(count / (size // slots)) for count in rows)


# One view of one image, for all members of its batch.
Pass = tuple[PooledImage[Result], int]


class Batch(Generic[Result]):
    """A batch that is being assembled.

    The last bits of a network's outputs depend on the batch's shape, and may depend on where in memory a
    crop's row begins, because the alignment changes the order in which kernels sum. So every batch has the same
    shape, with padding where necessary. Every crop has a fixed slot, which follows from its image's position in
    the data set and from its index in the crop order; rows of the same slot are whole cache lines apart. The
    scores are therefore bit-identical, whichever images share a batch.

    Args:
        size: The number of rows.
        members: The indices of the members that run the batch.

    Attributes:
        passes: The passes by row; rows without a pass are padding.
    """

    def __init__(self, size: int, members: Sequence[int]) -> None:
        self.size = size
        self.members = tuple(members)
        self.passes: dict[int, Pass[Result]] = {}
        self._slots = math.gcd(size, _MAX_SLOTS)
        self._taken = [0] * self._slots

    @property
    def crop_size(self) -> int:
        """The width and height of its crops, which are all of one size; it has one at least."""
        pooled, view = next(iter(self.passes.values()))
        return pooled.image.source.plan.views[view].size

    @property
    def is_full(self) -> bool:
        """Whether every row has a crop."""
        return len(self.passes) == self.size

    def take_from(self, pooled: PooledImage[Result], at_most: int) -> None:
        """Take those of the first `at_most` views open for the members whose slots still have empty rows."""
        image = pooled.image
        first = _first_slot(image.position, image.source.plan.crops, self._slots)
        for view in pooled.open.of(self.members)[:at_most]:
            slot = (first + view) % self._slots
            if self._taken[slot] < self.size // self._slots:
                self.passes[self._taken[slot] * self._slots + slot] = pooled, view
                self._taken[slot] += 1
                pooled.open.take(view, self.members)

    def give_back(self) -> None:
        """Return every view to its image, so that another batch can take it."""
        for pooled, view in self.passes.values():
            pooled.open.give_back(view, self.members)
        self.passes.clear()

    def images(self) -> Iterator[PooledImage[Result]]:
        """Yield the images that have views in the batch, each once."""
        yield from {id(pooled): pooled for pooled, _ in self.passes.values()}.values()


def _first_slot(position: int, scheme: int, slots: int) -> int:
    """Return the slot of an image's first crop, not yet reduced modulo `slots`.

    Consecutive images fill consecutive slots. If the crops of an image fill all slots evenly, consecutive images
    start one slot apart, so that they do not all wait for the same slot.
    """
    return position * (scheme % slots or 1)
