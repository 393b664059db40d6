"""Scores of regions from the engine that classifies crops: the regions of an image take the part of its crops."""

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.pixels import CropSource, Region
from ensemble_eval.crops.schemes import CROP_SIZE, CropPlan, View
from ensemble_eval.datasets.items import Item
from ensemble_eval.detection.proposals import Proposals, all_regions
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.jobs.prefetch import interruptible, pillow_silenced, pixel_bytes, prefetched
from ensemble_eval.jobs.signals import StopRequests

# 19 MiB of pixels: an image of thousands of regions is never warped at once.
CHUNK_REGIONS = 128
_REGION_BYTES = 3 * CROP_SIZE * CROP_SIZE
# Warped chunks that may wait for the members, at least and for each loader.
_CHUNKS_AHEAD, _CHUNKS_AHEAD_PER_LOADER, _BYTES_AHEAD = 4, 2, 1 << 29


@dataclass(frozen=True)
class RegionScores:
    """The class scores of an image's regions.

    Attributes:
        first_model: float32 [regions, classes], the softmax of the first member.
        mean_softmax: float64 [regions, classes], the mean over all members.
        margins: float32 [regions, classes], the margins of the SVMs; None without SVMs.
    """

    first_model: NDArray[np.float32]
    mean_softmax: NDArray[np.float64]
    margins: NDArray[np.float32] | None


class ImageRegions:
    """The regions of an image, and their scores, which arrive one by one.

    Args:
        position: The image's index in the data set; it decides which rows of a batch the regions may take.
        item: The image.
        proposals: Its proposals by set.
        classes: The number of classes that the members know.
        with_svm: Whether SVMs follow the members.

    Attributes:
        boxes: float64 [regions, 4], those of `all_regions`.
        scores: The scores of the regions, in their order.
        missing: How many regions have no scores yet.
    """

    def __init__(
        self, position: int, item: Item, proposals: Mapping[str, Proposals], classes: int, *, with_svm: bool
    ) -> None:
        self.position, self.item, self.proposals = position, item, proposals
        self.boxes = all_regions(proposals)
        shape = (len(self.boxes), classes)
        margins = np.empty(shape, np.float32) if with_svm else None
        self.scores = RegionScores(np.empty(shape, np.float32), np.empty(shape, np.float64), margins)
        self.missing = self._not_warped = len(self.boxes)
        self._lock = threading.Lock()
        self._decoded: Tensor | None = None

    def warp(self, first: int) -> Tensor:
        """A chunk of regions, uint8 [regions, 3, 224, 224]; threads may warp several at once.

        Raises:
            UnreadableImageError: The image cannot be decoded.
        """
        boxes = self.boxes[first : first + CHUNK_REGIONS]
        with self._lock:
            image = pixels.decode(self.item.read()) if self._decoded is None else self._decoded
            self._not_warped -= len(boxes)
            # Decoded once, and kept no longer than it is needed.
            self._decoded = image if self._not_warped else None
        return warp_regions(image, boxes)


@dataclass(frozen=True)
class _WarpedChunk(ReadyImage):
    """Some regions of an image, warped, from `first` on."""

    of: ImageRegions
    first: int


class PooledRegions(PooledImage[_WarpedChunk]):
    """A chunk in the engine's pool.

    Args:
        image: The chunk.
        members: The number of members, without the SVMs.
    """

    def __init__(self, image: ReadyImage, members: int) -> None:
        assert isinstance(image, _WarpedChunk)
        super().__init__(image, members + (image.of.scores.margins is not None))
        self._chunk, self._members = image, members
        self._left = len(image.source.plan.views)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Store the scores of a region; all members run together in their order, and then the SVMs."""
        del members
        scores, region = self._chunk.of.scores, self._chunk.first + view
        scores.first_model[region] = probabilities[0]
        scores.mean_softmax[region] = probabilities[: self._members].astype(np.float64).mean(axis=0)
        if scores.margins is not None:
            scores.margins[region] = probabilities[-1]
        self._left -= 1

    def result(self) -> _WarpedChunk | None:
        """The chunk, once all of its regions have scores."""
        return None if self._left else self._chunk


def score_regions(
    images: Iterable[ImageRegions], engine: Engine[_WarpedChunk], *, loaders: int, stop: StopRequests
) -> Generator[ImageRegions, None, None]:
    """Score the regions of images, and yield each image once all of its regions have scores.

    Args:
        images: The images; each is asked for when it is needed.
        engine: An engine whose pool makes `PooledRegions`.
        loaders: The number of threads that warp regions while the members run.
        stop: A request to stop ends the wait for a region.

    Raises:
        InputError: An image cannot be read, or a member fails.
    """
    without_regions: list[ImageRegions] = []
    warped = prefetched(
        _warped,
        _chunks(images, without_regions),
        threads=loaders,
        ahead=max(_CHUNKS_AHEAD, _CHUNKS_AHEAD_PER_LOADER * loaders),
        ahead_bytes=_BYTES_AHEAD,
        bytes_of=pixel_bytes,
    )
    with pillow_silenced(), contextlib.closing(warped):
        for chunk in engine.run(interruptible(warped, stop)):
            if isinstance(chunk, UnreadableImage):
                raise InputError(f"{chunk.id} was proposed on and now {chunk.reason}; restore the image")
            chunk.of.missing -= len(chunk.source.plan.views)
            if not chunk.of.missing:
                yield chunk.of
    yield from without_regions


def _chunks(
    images: Iterable[ImageRegions], without_regions: list[ImageRegions]
) -> Iterator[tuple[ImageRegions, int]]:
    """The first region of each chunk; images without regions go to `without_regions`."""
    for each in images:
        for first in range(0, len(each.boxes), CHUNK_REGIONS):
            yield each, first
        if not len(each.boxes):
            without_regions.append(each)


def _warped(chunk: tuple[ImageRegions, int]) -> ReadyImage | UnreadableImage:
    of, first = chunk
    try:
        regions = of.warp(first).permute(0, 2, 3, 1).contiguous()
    except UnreadableImageError as error:
        return UnreadableImage(of.item.id, str(error))
    # Each region is a whole view that lies ready.
    views = tuple(View(CROP_SIZE, index, 0, CROP_SIZE, mirrored=False) for index in range(len(regions)))
    plan = CropPlan(views, {len(views): (1,) * len(views)}, tuple(range(len(views))))
    places: dict[int | View, Region] = {
        view: Region(index * _REGION_BYTES, CROP_SIZE) for index, view in enumerate(views)
    }
    source = CropSource(plan, regions.view(-1), places)
    return _WarpedChunk(of.position, of.item.id, of.item.label, source, of, first)
