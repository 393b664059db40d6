"""The evaluation loop: run the members of an ensemble over crops of images, in batches.

The loop keeps a pool of images, assembles batches of their crops, runs the members on each batch, and passes the
probabilities back to each image. It does not depend on GoogLeNet, files or progress bars: it takes images and
`Predict` functions, and yields one result per image.

A view is a distinct crop: crops of an image with equal pixels are one view, and are computed once. A pass is one
view through one member.
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
from ensemble_eval.engine.runners import CudaStreams, LaunchedBatch, StreamRunner, SynchronousRunner
from ensemble_eval.errors import InputError, NonFiniteScoresError

Result = TypeVar("Result")

# New images are admitted until this many batches could be filled from the pool. One is not enough, because each
# view fits only into some rows of a batch (see `Batch`).
_BATCHES_IN_POOL = 3


class Engine(Generic[Result]):
    """Runs members over images.

    Args:
        members: The members by name, in the ensemble's order.
        pool_image: Wraps an image whose pixels are on the device in a `PooledImage`, such as `ScoredImage` (full
            scores) or `DecidedImage` (early exit).
        device: The device on which batches are assembled.
        batch_size: Crops per batch.
        groups: The members that see the same views; by default, all members do. The crops of a batch are of one
            size, and are run by one of these groups or, with early exit, by a single member.
        batches_in_flight: How many batches may be running before the engine waits for the first. By default 2 on
            CUDA and 1 on a CPU.
        forward: Runs the members of a batch. By default they run one after the other.
        streams: The streams of the device. By default, `CudaStreams` on CUDA and none on a CPU.

    Attributes:
        batch_size: The current number of crops per batch. When a batch does not fit into memory, the number is
            halved and the same passes are tried again.
    """

    def __init__(
        self,
        members: Mapping[str, Predict],
        pool_image: Callable[[ReadyImage], PooledImage[Result]],
        device: torch.device,
        batch_size: int,
        groups: Iterable[tuple[int, ...]] | None = None,
        batches_in_flight: int | None = None,
        forward: Forward | None = None,
        streams: CudaStreams | None = None,
    ) -> None:
        self._names = tuple(members)
        self._groups = tuple(groups or [tuple(range(len(members)))])
        self._forward = forward or Forward(members.values())
        self._pool_image = pool_image
        self._device = device
        # A dict used as an ordered set: in order of arrival, with fast removal of any image.
        self._pool: dict[PooledImage[Result], None] = {}
        self._in_flight: deque[tuple[Batch[Result], LaunchedBatch]] = deque()
        # On a GPU, one batch is assembled while another runs. On a CPU, nothing can overlap.
        self._max_in_flight = batches_in_flight or (2 if device.type == "cuda" else 1)
        streams = CudaStreams(device) if streams is None and device.type == "cuda" else streams
        self._runner: SynchronousRunner[Result] | StreamRunner[Result] = (
            StreamRunner(self._forward, device, streams) if streams else SynchronousRunner(self._forward, device)
        )
        self.batch_size = batch_size

    def run(self, images: Iterable[ReadyImage | UnreadableImage]) -> Iterator[Result | UnreadableImage]:
        """Yield the result of each image as soon as it is complete; unreadable images are passed through.

        Raises:
            NonFiniteScoresError: A member returns NaN or infinity.
            InputError: An image, or a batch of one crop, does not fit into memory.
        """
        arriving = iter(images)
        if self._pool or self._in_flight:
            # The generator of an earlier run was closed early, with images or batches still here.
            self._runner.clear()
        self._pool.clear()
        self._in_flight.clear()
        images_left = True
        while images_left or self._pool:
            batch: Batch[Result] = Batch(self.batch_size, self._members_of_next_batch(images_left))
            for pooled in self._pool:
                batch.take_from(pooled, pooled.views_per_batch(batch.size))
            # Counted incrementally, because counting the pool for each image would take most of the engine's time.
            views_waiting = self._views_waiting()[batch.members]
            while images_left and self._wants_images(batch, views_waiting):
                image = next(arriving, None)
                if isinstance(image, UnreadableImage):
                    yield image
                elif images_left := (image is not None):
                    views_waiting += self._admit(image, batch)
            self._fill_up(batch)
            self._launch(batch)
            while self._in_flight and (len(self._in_flight) >= self._max_in_flight or not batch.passes):
                yield from self._collect(*self._in_flight.popleft())

    def new_notices(self) -> list[str]:
        """Return the notices about how members run that are new since the last call."""
        return self._forward.new_notices()

    def _members_of_next_batch(self, images_left: bool) -> tuple[int, ...]:
        """Choose the members of the next batch: the group, or the single member, with the most waiting views.

        With early exit, views wait for single members once the outcome of the ensemble is certain, but not that of
        these members. A single member is chosen if its views fill a batch, if the views that wait for single
        members crowd the pool, or if no image is left and no view waits for a group.
        """
        waiting = self._views_waiting()
        for_groups = {group: waiting.pop(group, 0) for group in self._groups}
        group = max(for_groups, key=lambda each: for_groups[each])
        ((single, views),) = waiting.most_common(1) or [(group, 0)]
        # Images that wait for single members take up memory as well.
        crowded = waiting.total() > _BATCHES_IN_POOL * self.batch_size
        is_single = views >= self.batch_size or crowded or not (images_left or for_groups[group])
        return single if is_single else group

    def _views_waiting(self) -> Counter[tuple[int, ...]]:
        """Count the views that the next batch could take, by the group of members that must still run them."""
        waiting: Counter[tuple[int, ...]] = Counter()
        for pooled in self._pool:
            waiting.update(self._views_waiting_of(pooled))
        return waiting

    def _views_waiting_of(self, pooled: PooledImage[Result]) -> dict[tuple[int, ...], int]:
        """Like `_views_waiting`, for one image."""
        share = pooled.views_per_batch(self.batch_size)
        return {members: min(views, share) for members, views in pooled.open.counts().items()}

    def _wants_images(self, batch: Batch[Result], views_waiting: int) -> bool:
        """Whether to admit another image: the batch is for a group and has empty rows, and the pool is small.

        If `_BATCHES_IN_POOL` batches of views wait already, padding costs less than a larger pool.
        """
        enough = _BATCHES_IN_POOL * self.batch_size
        return batch.members in self._groups and not batch.is_full and views_waiting < enough

    def _admit(self, image: ReadyImage, batch: Batch[Result]) -> int:
        """Take an image into the pool and as many views as fit into a batch; return how many views still wait."""
        try:
            with memory_errors_of(image.id):
                image = self._runner.admit(image)
        except OutOfDeviceMemoryError as error:
            raise InputError(
                f"{error} does not fit into the memory of {self._device}; use fewer models or a smaller batch"
            ) from error
        pooled = self._pool_image(image)
        self._pool[pooled] = None
        batch.take_from(pooled, pooled.views_per_batch(batch.size))
        return self._views_waiting_of(pooled).get(batch.members, 0)

    def _fill_up(self, batch: Batch[Result]) -> None:
        """Add crops in rows that would be empty, even if early exit may make these crops unnecessary."""
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
            # A new exception, because the traceback and the cause of this one keep alive the tensors that did not
            # fit.
            failed = OutOfDeviceMemoryError(str(error))
        if failed is not None:
            batch.give_back()
            if self.batch_size == 1:
                raise InputError(f"{failed} does not fit into the memory of {self._device}; use fewer models")
            self.batch_size //= 2
            self._runner.release()

    def _collect(self, batch: Batch[Result], launched: LaunchedBatch) -> Iterator[Result]:
        """Wait for a batch, pass its probabilities to its images, and yield the results that are complete."""
        with launched as probabilities:
            self._refuse_non_finite(probabilities, batch)
            for row, (pooled, view) in batch.passes.items():
                pooled.keep(view, batch.members, probabilities[:, row])
        for pooled in batch.images():
            # An image may have left the pool already: its result can be known while its last crops are in flight.
            if pooled in self._pool:
                pooled.decide()
                if (result := pooled.result()) is not None:
                    del self._pool[pooled]
                    self._runner.remove(pooled.image)
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
