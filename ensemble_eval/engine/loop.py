"""The one loop: a pool of images, batches of their crops, members on each batch, sums per image.

It knows neither GoogLeNet nor files nor progress bars: it takes images and `Predict` functions and yields one
record per image. A view is a crop of an image that differs from its other crops; a pass is one view through one
member.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import Forward, OutOfDeviceMemoryError, Predict, memory_errors_of
from ensemble_eval.engine.runners import CudaQueues, CuttingRunner, LaunchedBatch, QueuedRunner
from ensemble_eval.errors import InputError, NonFiniteScoresError

Result = TypeVar("Result")

# The pool is large enough when this many batches could be filled from it. One would not do, because a view fits
# into some rows of a batch only.
_BATCHES_IN_POOL = 3


class Engine(Generic[Result]):
    """Runs members over images.

    Args:
        members: by name, in the ensemble's order.
        pool_image: makes the `PooledImage` of an image whose pixels are on the device: a `ScoredImage` for full
            scores, a `DecidedImage` for decisions, or another kind.
        device: where batches are put together.
        batch_size: crops per batch. It is halved, and the same passes tried again, when a batch does not fit
            into memory; see `batch_size` afterwards.
        before_forward: called before every member's batch; what it raises ends the run there.
        batches_in_flight: how many may be started before the first is waited for; by default what suits the
            device.
        forward: runs the members of a batch; by default one after the other, with `before_forward` before each.
        queues: of the device; by default those of CUDA on CUDA, and on a CPU none.
    """

    def __init__(
        self,
        members: Mapping[str, Predict],
        pool_image: Callable[[ReadyImage], PooledImage[Result]],
        device: torch.device,
        batch_size: int,
        before_forward: Callable[[], None] = lambda: None,
        batches_in_flight: int | None = None,
        forward: Forward | None = None,
        queues: CudaQueues | None = None,
    ) -> None:
        self._names = tuple(members)
        self._all = tuple(range(len(members)))
        self._forward = forward or Forward(members.values(), before_forward)
        self._pool_image = pool_image
        self._device = device
        # In the order of arrival; as keys, because images leave from anywhere.
        self._pool: dict[PooledImage[Result], None] = {}
        self._in_flight: deque[tuple[Batch[Result], LaunchedBatch]] = deque()
        # While a GPU is at one batch, the next is put together; a CPU has nothing to overlap.
        self._most_in_flight = batches_in_flight or (2 if device.type == "cuda" else 1)
        queues = CudaQueues(device) if queues is None and device.type == "cuda" else queues
        self._runner: CuttingRunner[Result] | QueuedRunner[Result] = (
            QueuedRunner(self._forward, device, queues) if queues else CuttingRunner(self._forward, device)
        )
        self.batch_size = batch_size

    def run(self, images: Iterable[ReadyImage | UnreadableImage]) -> Iterator[Result | UnreadableImage]:
        """Yield one record per image as it becomes known; unreadable images pass through.

        Raises:
            NonFiniteScoresError: a member yields NaN or infinity.
            InputError: one crop alone does not fit into memory.
        """
        arriving = iter(images)
        if self._pool or self._in_flight:
            # A run that was left early has left them behind.
            self._runner.clear()
        self._pool.clear()
        self._in_flight.clear()
        more = True
        while more or self._pool:
            batch: Batch[Result] = Batch(self.batch_size, self._members_of_next_batch(more))
            for pooled in self._pool:
                batch.take_from(pooled, pooled.share_of(batch.size))
            # Counted incrementally: to go through the pool for every image would take most of the engine's time.
            waiting = self._waiting()[self._all]
            while more and self._wants_images(batch, waiting):
                image = next(arriving, None)
                if isinstance(image, UnreadableImage):
                    yield image
                elif more := image is not None:
                    waiting += self._admit(image, batch)
            self._fill_up(batch)
            self._launch(batch)
            while self._in_flight and (len(self._in_flight) >= self._most_in_flight or not batch.passes):
                yield from self._fold(*self._in_flight.popleft())

    def new_notices(self) -> list[str]:
        """Sentences for the user about how members run, since the last call."""
        return self._forward.new_notices()

    def _members_of_next_batch(self, more: bool) -> tuple[int, ...]:
        """All members, unless a whole batch waits for a single member, or nothing waits for all of them."""
        waiting = self._waiting()
        views_for_all = waiting.pop(self._all, 0)
        ((single, views),) = waiting.most_common(1) or [(self._all, 0)]
        # Images that wait for a single member fill memory as others do.
        crowded = waiting.total() > _BATCHES_IN_POOL * self.batch_size
        return single if views >= self.batch_size or crowded or not (more or views_for_all) else self._all

    def _waiting(self) -> Counter[tuple[int, ...]]:
        """How many views the next batch can take, for each group of members that must still run them."""
        waiting: Counter[tuple[int, ...]] = Counter()
        for pooled in self._pool:
            waiting.update(self._waiting_of(pooled))
        return waiting

    def _waiting_of(self, pooled: PooledImage[Result]) -> dict[tuple[int, ...], int]:
        """As `_waiting`, of one image."""
        share = pooled.share_of(self.batch_size)
        return {members: min(views, share) for members, views in pooled.open.counts().items()}

    def _wants_images(self, batch: Batch[Result], waiting: int) -> bool:
        """Whether rows are empty, unless so many views wait already that padding costs less."""
        much = _BATCHES_IN_POOL * self.batch_size
        return batch.members == self._all and not batch.is_full and waiting < much

    def _admit(self, image: ReadyImage, batch: Batch[Result]) -> int:
        """Take an image into the pool and as much as fits of it into a batch; return how many views still wait."""
        try:
            with memory_errors_of(image.id):
                image = self._runner.admit(image)
        except OutOfDeviceMemoryError as error:
            raise InputError(
                f"{error} does not fit into the memory of {self._device}; use fewer models or a smaller batch"
            ) from error
        pooled = self._pool_image(image)
        self._pool[pooled] = None
        batch.take_from(pooled, pooled.share_of(batch.size))
        return self._waiting_of(pooled).get(self._all, 0)

    def _fill_up(self, batch: Batch[Result]) -> None:
        """Put crops into rows that would be padded, though they may turn out not to have been needed."""
        for pooled in self._pool:
            if batch.is_full:
                return
            batch.take_from(pooled, batch.size)

    def _launch(self, batch: Batch[Result]) -> None:
        """Start a batch, or halve the size of batches if it does not fit."""
        if not batch.passes:
            return
        failed: OutOfDeviceMemoryError | None = None
        try:
            with memory_errors_of(f"a batch of {batch.size}"):
                self._in_flight.append((batch, self._runner.launch(batch)))
        except OutOfDeviceMemoryError as error:
            # Without its traceback and its cause: they hold everything that did not fit.
            failed = OutOfDeviceMemoryError(str(error))
        if failed is not None:
            batch.give_back()
            if self.batch_size == 1:
                raise InputError(f"{failed} does not fit into the memory of {self._device}; use fewer models")
            self.batch_size //= 2
            self._runner.release()

    def _fold(self, batch: Batch[Result], launched: LaunchedBatch) -> Iterator[Result]:
        """Keep a batch's probabilities, and yield the results of the images that need no more."""
        with launched as probabilities:
            self._refuse_non_finite(probabilities, batch)
            for row, (pooled, view) in batch.passes.items():
                pooled.keep(view, batch.members, probabilities[:, row])
        for pooled in batch.images():
            # An image whose result was known before has left the pool, perhaps with crops still in flight.
            if pooled in self._pool:
                pooled.decide()
                if (result := pooled.result()) is not None:
                    del self._pool[pooled]
                    self._runner.leave(pooled.image)
                    yield result

    def _refuse_non_finite(self, probabilities: NDArray[np.float32], batch: Batch[Result]) -> None:
        if np.isfinite(probabilities).all():
            return
        for row, (pooled, _) in batch.passes.items():
            for member, scores in zip(batch.members, probabilities[:, row], strict=True):
                if not np.isfinite(scores).all():
                    raise NonFiniteScoresError(
                        f"member {self._names[member]} yields NaN or infinity for {pooled.image.id}; "
                        'check its weights and preprocessing, or try `precision="float32"`'
                    )
