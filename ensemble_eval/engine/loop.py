"""The one loop: a pool of images, batches of their crops, members on each batch, sums per image.

Knows neither GoogLeNet nor files nor progress bars: it takes images and `Predict` functions and yields one
record per image.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.pool import (
    DecidedImage,
    ImageDecisions,
    ImageScores,
    PooledImage,
    ReadyImage,
    Strand,
    UnreadableImage,
)
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict, memory_errors_of
from ensemble_eval.errors import InputError, NonFiniteScoresError

# The pool is large enough when this many batches could be filled from it: lanes are not equally long.
_BATCHES_IN_POOL = 3
# Until decided, an image has one crop in each batch, so that none is run after the deciding one; on a GPU,
# whose batches are large, a share of the batch, so that the pool fits into its memory.
_DECISIONS_PER_BATCH = 32


class Engine:
    """Runs members over images.

    Args:
        members: by name, in the ensemble's order.
        num_classes: length of every score vector.
        device: where batches are put together.
        batch_size: crops per batch. It is halved, and the same passes tried again, when a batch does not fit
            into memory; see `batch_size` afterwards.
        decides: empty for scores in full; else each image is run only until, for each of these k, it is
            certain in every row of the table whether its label is among the k best.
        before_forward: called before every member's batch; what it raises ends the run there.
        batches_in_flight: how many may be started before the first is waited for; by default what suits the
            device.
    """

    def __init__(
        self,
        members: Mapping[str, Predict],
        num_classes: int,
        device: torch.device,
        batch_size: int,
        decides: Sequence[int] = (),
        before_forward: Callable[[], None] = lambda: None,
        batches_in_flight: int | None = None,
    ) -> None:
        self._names = tuple(members)
        self._predicts = tuple(members.values())
        self._all = tuple(range(len(members)))
        self._before_forward = before_forward
        self._num_classes = num_classes
        self._device = device
        self._decides = decides
        self._pool: list[PooledImage] = []
        self._in_flight: deque[_Running] = deque()
        # While a GPU is at one batch, the next is put together; a CPU has nothing to overlap.
        self._most_in_flight = batches_in_flight or (2 if device.type == "cuda" else 1)
        self.batch_size = batch_size

    def run(
        self, images: Iterable[ReadyImage | UnreadableImage]
    ) -> Iterator[ImageScores | ImageDecisions | UnreadableImage]:
        """Yield one record per image as it becomes known; unreadable images pass through.

        Raises:
            NonFiniteScoresError: a member yields NaN or infinity.
            InputError: one crop alone does not fit into memory.
        """
        arriving = iter(images)
        self._pool.clear()
        self._in_flight.clear()
        more = True
        while more or self._pool:
            batch = self._batch_of_pool(self._members_in_turn(more))
            while more and self._wants_images(batch):
                image = next(arriving, None)
                if isinstance(image, UnreadableImage):
                    yield image
                elif more := image is not None:
                    self._admit(image, batch)
            self._fill_up(batch)
            self._launch(batch)
            while self._in_flight and (len(self._in_flight) >= self._most_in_flight or not batch.passes):
                yield from self._fold(self._in_flight.popleft())

    def _members_in_turn(self, more: bool) -> tuple[int, ...]:
        """All of them, unless one that goes on alone has enough to do for a batch, or nobody else has."""
        waiting = self._waiting()
        together = waiting.pop(self._all, 0)
        ((alone, views),) = waiting.most_common(1) or [(self._all, 0)]
        # Images that wait for one member fill memory as those of the pool do.
        crowded = waiting.total() > _BATCHES_IN_POOL * self.batch_size
        return alone if views >= self.batch_size or crowded or not (more or together) else self._all

    def _waiting(self) -> Counter[tuple[int, ...]]:
        """How many views the next batch can take, by the members that they are to go through."""
        waiting: Counter[tuple[int, ...]] = Counter()
        at_most = self._crops_per_decision
        for strand in self._strands():
            waiting[strand.members] += min(strand.views_left, at_most)
        return waiting

    def _strands(self) -> Iterator[Strand]:
        return (strand for image in self._pool for strand in image.strands)

    def _batch_of_pool(self, members: tuple[int, ...]) -> Batch:
        batch = Batch(self.batch_size, members)
        for strand in self._strands():
            if strand.members == members:
                batch.take_from(strand, self._crops_per_decision)
        return batch

    @property
    def _crops_per_decision(self) -> int:
        """How many crops of an image a batch takes before other images have had their turn."""
        if not self._decides:
            return self.batch_size
        return max(1, self.batch_size // _DECISIONS_PER_BATCH)

    def _wants_images(self, batch: Batch) -> bool:
        """Whether rows are empty, unless so much waits for the others already that padding costs less."""
        if batch.members != self._all or batch.is_full:
            return False
        return self._waiting()[self._all] < _BATCHES_IN_POOL * self.batch_size

    def _admit(self, image: ReadyImage, batch: Batch) -> None:
        try:
            with memory_errors_of(image.id):
                image = replace(image, source=image.source.to(self._device))
        except OutOfDeviceMemoryError as error:
            raise InputError(
                f"{error} does not fit into the memory of {self._device}; use fewer models or a smaller batch"
            ) from error
        pooled: PooledImage
        if self._decides:
            pooled = DecidedImage(image, len(self._all), self._num_classes, self._decides)
        else:
            pooled = PooledImage(image, len(self._all), self._num_classes)
        self._pool.append(pooled)
        for strand in pooled.strands:
            batch.take_from(strand, self._crops_per_decision)

    def _fill_up(self, batch: Batch) -> None:
        """Put crops into rows that would be padded, though they may turn out not to have been needed."""
        for strand in self._strands():
            if batch.is_full:
                return
            if strand.members == batch.members:
                batch.take_from(strand, self.batch_size)

    def _launch(self, batch: Batch) -> None:
        """Start a batch's members on it."""
        if not batch.passes:
            return
        failed: OutOfDeviceMemoryError | None = None
        try:
            with memory_errors_of(f"a batch of {batch.size}"):
                self._in_flight.append(_Running(batch, self._predict(self._crops(batch), batch.members)))
        except OutOfDeviceMemoryError as error:
            # Its words only: tracebacks, its own and its cause's, hold everything that did not fit.
            failed = OutOfDeviceMemoryError(str(error))
        if failed is not None:
            batch.give_back()
            self._halve_batch(failed)

    def _crops(self, batch: Batch) -> Tensor:
        """Crops uint8 [batch_size, 3, 224, 224] on the device, channels last, padded with black."""
        shape = (batch.size, 3, CROP_SIZE, CROP_SIZE)
        crops = torch.zeros(shape, dtype=torch.uint8, device=self._device).to(memory_format=torch.channels_last)
        for row, (strand, view) in batch.passes.items():
            source = strand.image.source
            crops[row] = source.cut(source.plan.views[view])
        return crops

    def _predict(self, crops: Tensor, members: Sequence[int]) -> Tensor:
        """Probabilities float32 [the batch's members, batch_size, classes], on the device."""
        outputs = []
        for member in members:
            self._before_forward()
            outputs.append(self._predicts[member](crops))
        return torch.stack(outputs)

    def _fold(self, running: "_Running") -> Iterator[ImageScores | ImageDecisions]:
        """Keep a batch's outcome, and yield the images that need no more."""
        probabilities = running.wait()
        members = running.batch.members
        self._refuse_non_finite(probabilities, running.batch)
        for row, (strand, view) in running.batch.passes.items():
            strand.image.keep(view, members, probabilities[:, row])
        for image in (strand.image for strand in running.batch.strands()):
            # Decided before, with crops still under way.
            if image in self._pool and (result := image.result()):
                self._pool.remove(image)
                # Strands and image refer to each other: without this they would wait for the garbage collector.
                image.strands.clear()
                yield result

    def _halve_batch(self, error: OutOfDeviceMemoryError) -> None:
        if self.batch_size == 1:
            raise InputError(f"{error} does not fit into the memory of {self._device}; use fewer models")
        self.batch_size //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _refuse_non_finite(self, probabilities: NDArray[np.float32], batch: Batch) -> None:
        if np.isfinite(probabilities).all():
            return
        for row, (strand, _) in batch.passes.items():
            for member, scores in zip(batch.members, probabilities[:, row], strict=True):
                if not np.isfinite(scores).all():
                    raise NonFiniteScoresError(
                        f"member {self._names[member]} yields NaN or infinity for {strand.image.id}; "
                        "check its weights and preprocessing, or try --precision float32"
                    )


class _Running:
    """A batch that its device is at, and its outcome once it is there."""

    def __init__(self, batch: Batch, probabilities: Tensor) -> None:
        self.batch = batch
        self._copied: torch.cuda.Event | None = None
        self._probabilities = probabilities
        if probabilities.is_cuda:
            # Copied as soon as it is there: a later copy would wait for the batches launched meanwhile.
            self._probabilities = torch.empty_like(probabilities, device="cpu", pin_memory=True)
            self._probabilities.copy_(probabilities, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's stub
            self._copied.record(torch.cuda.current_stream(probabilities.device))

    def wait(self) -> NDArray[np.float32]:
        """Probabilities float32 [members, batch_size, classes]."""
        if self._copied is not None:
            self._copied.synchronize()
        probabilities: NDArray[np.float32] = self._probabilities.numpy()
        return probabilities
