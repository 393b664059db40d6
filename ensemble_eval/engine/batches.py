"""Which crop goes into which row of which batch."""

import math
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from ensemble_eval.engine.pool import PooledImage

Result = TypeVar("Result")

# A slot is the rows of a batch of one alignment: 16 rows of the smallest activation are whole cache lines.
_MAX_SLOTS = 16


def batches_needed(images: int, scheme: int, size: int) -> int:
    """How many batches the crops of consecutive images take, the last ones filled in part.

    Args:
        images: from the first of a data set on.
        scheme: crops of each.
        size: rows of a batch.
    """
    slots = math.gcd(size, _MAX_SLOTS)
    rows = [0] * slots
    for position in range(min(images, slots)):
        alike = len(range(position, images, slots))
        for view in range(scheme):
            rows[(_first_slot(position, scheme, slots) + view) % slots] += alike
    return max(math.ceil(count / (size // slots)) for count in rows)


class Pass(NamedTuple, Generic[Result]):
    """One view of one image, to go through the members of its batch."""

    pooled: PooledImage[Result]
    view: int


class Batch(Generic[Result]):
    """A batch being put together.

    The last bits of a network's outputs depend on the batch's shape, and may depend on where in memory a
    crop's row begins, because kernels sum in an order that follows alignment. So every batch has the same
    shape, padded where need be, and every crop its own slot, which follows from its image's position in the
    data set and from its index in the crop order: rows of the same slot are whole cache lines apart. Scores
    are then the same bits whichever images share a batch.

    Args:
        size: rows.
        members: indices of those that the batch goes through.

    Attributes:
        passes: by row.
    """

    def __init__(self, size: int, members: Sequence[int]) -> None:
        self.size = size
        self.members = tuple(members)
        self.passes: dict[int, Pass[Result]] = {}
        self._slots = math.gcd(size, _MAX_SLOTS)
        self._taken = [0] * self._slots

    @property
    def is_full(self) -> bool:
        """Whether every row has its crop."""
        return len(self.passes) == self.size

    def take_from(self, pooled: PooledImage[Result], at_most: int) -> None:
        """Take the first `at_most` views that are open for the members, as far as their slots have empty rows."""
        image = pooled.image
        first = _first_slot(image.position, image.source.plan.crops, self._slots)
        for view in pooled.open.of(self.members)[:at_most]:
            slot = (first + view) % self._slots
            if self._taken[slot] < self.size // self._slots:
                self.passes[self._taken[slot] * self._slots + slot] = Pass(pooled, view)
                self._taken[slot] += 1
                pooled.open.take(view, self.members)

    def give_back(self) -> None:
        """Return every view to its image, for another batch."""
        for pooled, view in self.passes.values():
            pooled.open.give_back(view, self.members)
        self.passes.clear()

    def images(self) -> Iterator[PooledImage[Result]]:
        """The images that have views in the batch, each once."""
        yield from {id(one.pooled): one.pooled for one in self.passes.values()}.values()


def _first_slot(position: int, scheme: int, slots: int) -> int:
    """Of an image's first crop, before it is taken modulo `slots`.

    Consecutive images fill consecutive slots. Where a scheme fills all slots evenly, they begin one slot apart,
    so that not all of them wait for the same.
    """
    return position * (scheme % slots or 1)
