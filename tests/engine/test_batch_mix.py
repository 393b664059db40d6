"""Which crop shares a batch with which: the same as if the whole pool were looked through for every image."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import pytest
import torch
from builders import CLASS_NAMES, encoded, googlenet_plan, picture
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
Result = ImageScores | ImageDecisions
# The members of a batch, and by row the image's position and the view.
Mix = tuple[tuple[int, ...], dict[int, tuple[int, int]]]


def _mix(batch: Batch[Result]) -> Mix:
    return batch.members, {row: (pooled.image.position, view) for row, (pooled, view) in batch.passes.items()}


class ObviousEngine:
    """The engine's loop with a list for a pool, all of which is counted again for every image that is taken."""

    def __init__(
        self,
        members: Sequence[Predict],
        pool_image: Callable[[ReadyImage], PooledImage[Result]],
        batch_size: int,
        in_flight: int,
    ) -> None:
        self._members, self._pool_image, self._size, self._most = members, pool_image, batch_size, in_flight
        self._all = tuple(range(len(members)))
        self._pool: list[PooledImage[Result]] = []
        self._in_flight: deque[tuple[Batch[Result], Tensor]] = deque()
        self.mixes: list[Mix] = []
        self.ids: list[str] = []

    def run(self, images: Iterable[ReadyImage]) -> None:
        arriving, more = iter(images), True
        while more or self._pool:
            batch: Batch[Result] = Batch(self._size, self._members_in_turn(more))
            for pooled in self._pool:
                batch.take_from(pooled, pooled.views_per_batch(self._size))
            while (
                more
                and batch.members == self._all
                and not batch.is_full
                and self._waiting()[self._all] < 3 * self._size
            ):
                image = next(arriving, None)
                more = image is not None
                if image is not None:
                    self._pool.append(self._pool_image(image))
                    batch.take_from(self._pool[-1], self._pool[-1].views_per_batch(self._size))
            for pooled in self._pool:
                batch.take_from(pooled, 0 if batch.is_full else self._size)
            if batch.passes:
                self._launch(batch)
            while self._in_flight and (len(self._in_flight) >= self._most or not batch.passes):
                self._fold(*self._in_flight.popleft())

    def _members_in_turn(self, more: bool) -> tuple[int, ...]:
        waiting = self._waiting()
        together = waiting.pop(self._all, 0)
        ((alone, views),) = waiting.most_common(1) or [(self._all, 0)]
        crowded = waiting.total() > 3 * self._size
        return alone if views >= self._size or crowded or not (more or together) else self._all

    def _waiting(self) -> Counter[tuple[int, ...]]:
        waiting: Counter[tuple[int, ...]] = Counter()
        for pooled in self._pool:
            for members, views in pooled.open.counts().items():
                waiting[members] += min(views, pooled.views_per_batch(self._size))
        return waiting

    def _launch(self, batch: Batch[Result]) -> None:
        self.mixes.append(_mix(batch))
        crops = torch.zeros(batch.size, 3, 224, 224, dtype=torch.uint8)
        for row, (pooled, view) in batch.passes.items():
            crops[row] = pooled.image.source.cut(pooled.image.source.plan.views[view])
        try:
            outcome = torch.stack([self._members[member](crops) for member in batch.members])
        except OutOfDeviceMemoryError:
            batch.give_back()
            self._size //= 2
        else:
            self._in_flight.append((batch, outcome))

    def _fold(self, batch: Batch[Result], outcome: Tensor) -> None:
        for row, (pooled, view) in batch.passes.items():
            pooled.keep(view, batch.members, outcome.numpy()[:, row])
        for pooled in batch.images():
            if pooled in self._pool:
                pooled.decide()
                if (result := pooled.result()) is not None:
                    self._pool.remove(pooled)
                    self.ids.append(result.id)


class RecordingEngine(Engine[Result]):
    """The engine, and the mix of every batch that it launched."""

    mixes: list[Mix]

    def _launch(self, batch: Batch[Result]) -> None:
        if batch.passes:
            self.mixes.append(_mix(batch))
        super()._launch(batch)


@cache
def _source(scheme: int, seed: int, members: int) -> pixels.CropSource:
    width, height = ((90, 60), (64, 64))[seed % 2]
    image = pixels.decode(encoded(picture(width, height, seed)))
    return pixels.prepare(image, googlenet_plan(width, height, scheme, members))


def _members(count: int, fails_at: int | None) -> list[Predict]:
    """Fast ones of different certainty, so that images are decided at different times; one call may fail."""
    calls = 0

    def predict(member: int, crops: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        means = crops[:, :, ::56, ::56].flatten(1).double() / 255
        directions = torch.linspace(-1, 1, means.shape[1] * COUNT, dtype=torch.float64).view(-1, COUNT).sin()
        return torch.softmax(means @ directions * (1 + 9 * member), dim=1).float()

    return [lambda crops, member=member: predict(member, crops) for member in range(count)]


@pytest.mark.parametrize("decides", [(), (1, 5)], ids=["full scores", "until decided"])
@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize(
    ("scheme", "images", "members", "size", "alike", "fails_at"),
    [
        (1, 70, 1, 16, 0, None),
        (1, 70, 2, 16, 0, 5),
        # The first want the same slots: more wait than the pool is meant to hold, and the rest must not come yet.
        (1, 90, 2, 16, 60, 5),
        (10, 40, 3, 16, 20, None),
        (10, 25, 3, 32, 0, 7),
        (144, 5, 3, 64, 0, 10),
    ],
)
def test_batches_are_those_of_the_obvious_loop(
    scheme: int,
    images: int,
    members: int,
    size: int,
    alike: int,
    fails_at: int | None,
    in_flight: int,
    decides: tuple[int, ...],
) -> None:
    def pool_image(image: ReadyImage) -> PooledImage[Result]:
        return DecidedImage(image, members, COUNT, decides) if decides else ScoredImage(image, members, COUNT)

    ready = [
        ReadyImage(
            16 * position if position < alike else 16 * alike + position,
            str(position),
            position % COUNT,
            _source(scheme, position % 5, members),
        )
        for position in range(images)
    ]
    obvious = ObviousEngine(_members(members, fails_at), pool_image, size, in_flight)
    obvious.run(ready)
    named = {str(index): predict for index, predict in enumerate(_members(members, fails_at))}
    engine = RecordingEngine(named, pool_image, CPU, size, batches_in_flight=in_flight)
    engine.mixes = []
    assert [result.id for result in engine.run(ready)] == obvious.ids
    assert len(obvious.ids) == images
    assert engine.mixes == obvious.mixes
    assert (engine.batch_size < size) == (fails_at is not None)
