"""The one loop: a pool of images, batches of their crops, every member on each batch, sums per image.

Knows neither GoogLeNet nor files nor progress bars: it takes images and `Predict` functions and yields one
record per image.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.backends import OutOfDeviceMemoryError, Predict
from ensemble_eval.crops import CROP_SIZE
from ensemble_eval.errors import InputError, NonFiniteScoresError
from ensemble_eval.pixels import CropSource

# How many batches' worth of crops may wait before a batch is run with rows left empty.
_MAX_WAITING_BATCHES = 2


@dataclass(frozen=True)
class ReadyImage:
    """An image whose pixels are decoded and resized.

    `position` is its place in the whole data set, whatever part of it is evaluated now: it decides which
    rows of a batch the image's crops take.
    """

    position: int
    id: str
    label: int
    source: CropSource


@dataclass(frozen=True)
class UnreadableImage:
    """An image that has no pixels to evaluate, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class ImageScores:
    """One image's result.

    Attributes:
        id: of the image.
        label: its class index.
        mean_softmax: for each scheme, float64 [members, classes], the mean over the scheme's crops.
        passes: crops that went through members for it, times members.
    """

    id: str
    label: int
    mean_softmax: Mapping[int, NDArray[np.float64]]
    passes: int


class Engine:
    """Runs members over images.

    The last bits of a network's outputs depend on a crop's row in its batch and on the batch's shape, because
    kernels sum in an order that follows memory alignment; on the other rows they do not. So every batch has
    the same shape, padded where need be, and every crop has its own row, which follows from the image's
    position in the data set alone: scores are the same bits whichever images happen to share a batch.

    Args:
        members: by name, in the ensemble's order.
        num_classes: length of every score vector.
        device: where batches are put together.
        batch_size: crops per batch. It is halved, and the same passes tried again, when a batch does not fit
            into memory; see `batch_size` afterwards.
        before_forward: called before every member's batch; what it raises ends the run there.
    """

    def __init__(
        self,
        members: Mapping[str, Predict],
        num_classes: int,
        device: torch.device,
        batch_size: int,
        before_forward: Callable[[], None] = lambda: None,
    ) -> None:
        self._members = members
        self._before_forward = before_forward
        self._num_classes = num_classes
        self._device = device
        self._pool: deque[_PooledImage | UnreadableImage] = deque()
        self._rows: list[deque[_Pass]] = []
        self.batch_size = batch_size

    def run(self, images: Iterable[ReadyImage | UnreadableImage]) -> Iterator[ImageScores | UnreadableImage]:
        """Yield one record per image, in order; unreadable images pass through.

        Raises:
            NonFiniteScoresError: a member yields NaN or infinity.
            InputError: one crop alone does not fit into memory.
        """
        arriving = iter(images)
        self._pool.clear()
        self._queue_passes()
        while self._fill(arriving):
            # A stretch of unreadable images passes at once and is not collected until a batch is full.
            if not _is_finished(self._pool[0]):
                self._run_batch()
            while self._pool and _is_finished(self._pool[0]):
                done = self._pool.popleft()
                yield done if isinstance(done, UnreadableImage) else done.scores()

    def _fill(self, arriving: Iterator[ReadyImage | UnreadableImage]) -> bool:
        """Admit images until the next batch is full or the first image is finished; False: none is left."""
        while not (self._pool and _is_finished(self._pool[0])) and self._wants_passes():
            image = next(arriving, None)
            if image is None:
                break
            self._admit(image)
        return bool(self._pool)

    def _wants_passes(self) -> bool:
        """Whether rows are empty, unless so much waits for the others already that padding costs less."""
        waiting = sum(map(len, self._rows))
        return not all(self._rows) and waiting < _MAX_WAITING_BATCHES * self.batch_size

    def _admit(self, image: ReadyImage | UnreadableImage) -> None:
        if isinstance(image, UnreadableImage):
            self._pool.append(image)
            return
        pooled = _PooledImage(image, image.source.to(self._device), len(self._members), self._num_classes)
        self._pool.append(pooled)
        self._queue(pooled)

    def _queue(self, image: "_PooledImage") -> None:
        for view in image.open_views():
            self._rows[image.row(view, self.batch_size)].append(_Pass(image, view))

    def _queue_passes(self) -> None:
        """Queue all that is open in the pool, for the batch size of now."""
        self._rows = [deque() for _ in range(self.batch_size)]
        for image in self._pool:
            if isinstance(image, _PooledImage):
                self._queue(image)

    def _run_batch(self) -> None:
        """Take the next pass of every row through all members and keep the outcome."""
        passes = {row: queue.popleft() for row, queue in enumerate(self._rows) if queue}
        try:
            probabilities = self._predict(self._batch(passes))
        except OutOfDeviceMemoryError as error:
            self._halve_batch(error)
            return
        for row, one in passes.items():
            self._refuse_non_finite(probabilities[:, row], one.image)
            one.image.keep(one.view, probabilities[:, row])

    def _batch(self, passes: Mapping[int, "_Pass"]) -> Tensor:
        """Crops uint8 [batch_size, 3, 224, 224] on the device, channels last, padded with black."""
        shape = (self.batch_size, 3, CROP_SIZE, CROP_SIZE)
        crops = torch.zeros(shape, dtype=torch.uint8, device=self._device).to(memory_format=torch.channels_last)
        for row, one in passes.items():
            crops[row] = one.image.source.cut(one.image.source.plan.views[one.view])
        return crops

    def _predict(self, crops: Tensor) -> NDArray[np.float32]:
        """Probabilities float32 [members, batch_size, classes]."""
        outputs = []
        for predict in self._members.values():
            self._before_forward()
            outputs.append(predict(crops))
        probabilities: NDArray[np.float32] = torch.stack(outputs).cpu().numpy()
        return probabilities

    def _halve_batch(self, error: OutOfDeviceMemoryError) -> None:
        if self.batch_size == 1:
            raise InputError(
                f"{error} does not fit into the memory of {self._device}; use fewer models"
            ) from error
        self.batch_size //= 2
        self._queue_passes()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _refuse_non_finite(self, probabilities: NDArray[np.float32], image: "_PooledImage") -> None:
        for name, scores in zip(self._members, probabilities, strict=True):
            if not np.isfinite(scores).all():
                raise NonFiniteScoresError(
                    f"member {name} yields NaN or infinity for {image.id}; "
                    "check its weights and preprocessing, or try --precision float32"
                )


class _PooledImage:
    """An image in the pool: its pixels, and the probabilities of the views that have been run."""

    def __init__(self, image: ReadyImage, source: CropSource, members: int, num_classes: int) -> None:
        self.id = image.id
        self.source = source
        self._label = image.label
        self._first = image.position * max(source.plan.weights)
        views = len(source.plan.views)
        self._open = dict.fromkeys(range(views))
        self._probabilities = np.empty((views, members, num_classes), dtype=np.float32)

    @property
    def is_done(self) -> bool:
        return not self._open

    def open_views(self) -> list[int]:
        """The views that have no outcome yet, in crop order."""
        return list(self._open)

    def row(self, view: int, batch_size: int) -> int:
        """Where in a batch the view belongs; consecutive images fill consecutive rows."""
        return (self._first + view) % batch_size

    def keep(self, view: int, probabilities: NDArray[np.float32]) -> None:
        """Take the outcome float32 [members, classes] of one view."""
        self._probabilities[view] = probabilities
        del self._open[view]

    def scores(self) -> ImageScores:
        views, members, _ = self._probabilities.shape
        weights = self.source.plan.weights
        means = {scheme: self._sum(weights[scheme]) / scheme for scheme in weights}
        return ImageScores(self.id, self._label, means, members * views)

    def _sum(self, weights: tuple[int, ...]) -> NDArray[np.float64]:
        """float64 [members, classes], added up in crop order."""
        total = np.zeros(self._probabilities.shape[1:])
        for weight, probabilities in zip(weights, self._probabilities, strict=True):
            if weight:
                total += weight * probabilities.astype(np.float64)
        return total


class _Pass(NamedTuple):
    """One view of one image, to go through all members."""

    image: _PooledImage
    view: int


def _is_finished(image: "_PooledImage | UnreadableImage") -> bool:
    return isinstance(image, UnreadableImage) or image.is_done
