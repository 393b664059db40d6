"""Regions through the engine of classification: an image's regions are its crops, some of them at a time."""

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops import pixels
from ensemble_eval.crops.pixels import CropSource, Region
from ensemble_eval.crops.schemes import CROP_SIZE, CropPlan, View
from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.datasets.items import Item
from ensemble_eval.detection.proposals import Proposals, all_regions
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.jobs.prefetch import pillow_silenced, pixel_bytes, prefetched, waiting
from ensemble_eval.jobs.signals import StopRequests

# 19 MiB of pixels: an image of thousands of regions is never warped at once.
CHUNK_REGIONS = 128
_REGION_BYTES = 3 * CROP_SIZE * CROP_SIZE
# Warped chunks that may wait for the members, at least and for each loader.
_CHUNKS_AHEAD, _CHUNKS_AHEAD_PER_LOADER, _BYTES_AHEAD = 4, 2, 1 << 29


@dataclass(frozen=True)
class RegionScores:
    """What the members say of an image's regions.

    Attributes:
        first_model: float32 [regions, classes], softmax of the first member.
        mean_softmax: float64 [regions, classes], the mean over all members.
        margins: float32 [regions, classes] of SVMs; None where there are none.
    """

    first_model: NDArray[np.float32]
    mean_softmax: NDArray[np.float64]
    margins: NDArray[np.float32] | None


@dataclass(frozen=True)
class ImageRegions:
    """The regions of an image.

    Attributes:
        position: of the image in the data set; it decides which rows of a batch the regions may take.
        item: the image.
        proposals: by set; the regions are those of `all_regions`.
    """

    position: int
    item: Item
    proposals: Mapping[str, Proposals]

    @functools.cached_property
    def boxes(self) -> Boxes:
        """float64 [regions, 4]."""
        return all_regions(self.proposals)


@dataclass(frozen=True)
class _Chunk:
    of: ImageRegions
    first: int

    @property
    def boxes(self) -> Boxes:
        return self.of.boxes[self.first : self.first + CHUNK_REGIONS]


@dataclass(frozen=True)
class _ReadyChunk(ReadyImage):
    """Some regions of an image, warped; `chunk` says which."""

    chunk: _Chunk


@dataclass(frozen=True)
class _ScoredChunk:
    chunk: _Chunk
    scores: RegionScores


class PooledRegions(PooledImage[_ScoredChunk]):
    """A chunk in the engine's pool.

    Args:
        image: warped.
        members: how many.
        classes: of the members.
        with_svm: whether SVMs follow the members.
    """

    def __init__(self, image: ReadyImage, members: int, classes: int, *, with_svm: bool) -> None:
        super().__init__(image, members + with_svm)
        shape = (len(image.source.plan.views), classes)
        self._members = members
        self._first_model = np.empty(shape, np.float32)
        self._mean_softmax = np.empty(shape, np.float64)
        self._margins = np.empty(shape, np.float32) if with_svm else None
        self._left = len(image.source.plan.views)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """See `PooledImage`; all members run together, in their order, and the SVMs after them."""
        del members
        self._first_model[view] = probabilities[0]
        self._mean_softmax[view] = probabilities[: self._members].astype(np.float64).mean(axis=0)
        if self._margins is not None:
            self._margins[view] = probabilities[-1]
        self._left -= 1

    def result(self) -> _ScoredChunk | None:
        """See `PooledImage`."""
        if self._left:
            return None
        assert isinstance(self.image, _ReadyChunk)
        return _ScoredChunk(self.image.chunk, RegionScores(self._first_model, self._mean_softmax, self._margins))


RegionsEngine = Engine[_ScoredChunk]


def score_regions(
    images: Iterable[ImageRegions],
    engine: RegionsEngine,
    classes: int,
    *,
    with_svm: bool,
    loaders: int,
    stop: StopRequests,
) -> Generator[tuple[ImageRegions, RegionScores], None, None]:
    """Images as their last region comes back, and the scores of its regions in their order.

    Args:
        images: with their regions; asked for as they are needed.
        engine: whose pool makes `PooledRegions`.
        classes: of the members.
        with_svm: whether SVMs follow the members.
        loaders: threads that warp regions while the members run.
        stop: waiting for a region is cut short by a request to stop.

    Raises:
        InputError: an image cannot be read, or a member fails.
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
    arrived = defaultdict[str, list[_ScoredChunk]](list)
    with pillow_silenced(), contextlib.closing(warped):
        for result in engine.run(waiting(warped, stop)):
            if isinstance(result, UnreadableImage):
                raise InputError(f"{result.id} was proposed on and now {result.reason}; restore the image")
            of = result.chunk.of
            arrived[of.item.id].append(result)
            if sum(len(each.chunk.boxes) for each in arrived[of.item.id]) == len(of.boxes):
                chunks = sorted(arrived.pop(of.item.id), key=lambda each: each.chunk.first)
                yield of, _joined([each.scores for each in chunks], classes, with_svm=with_svm)
    for image in without_regions:
        yield image, _joined([], classes, with_svm=with_svm)


def _chunks(images: Iterable[ImageRegions], without_regions: list[ImageRegions]) -> Iterator[_Chunk]:
    """Some regions at a time; images that have none go to `without_regions`."""
    for each in images:
        for first in range(0, len(each.boxes), CHUNK_REGIONS):
            yield _Chunk(each, first)
        if not len(each.boxes):
            without_regions.append(each)


def _warped(chunk: _Chunk) -> ReadyImage | UnreadableImage:
    item = chunk.of.item
    try:
        image = pixels.decode(item.read())
    except UnreadableImageError as error:
        return UnreadableImage(item.id, str(error))
    regions = warp_regions(image, chunk.boxes).permute(0, 2, 3, 1).contiguous()
    # Each region is a whole view that lies ready.
    views = tuple(View(CROP_SIZE, index, 0, CROP_SIZE, mirrored=False) for index in range(len(regions)))
    plan = CropPlan(views, {len(views): (1,) * len(views)}, tuple(range(len(views))))
    places: dict[int | View, Region] = {
        view: Region(index * _REGION_BYTES, CROP_SIZE, CROP_SIZE) for index, view in enumerate(views)
    }
    return _ReadyChunk(chunk.of.position, item.id, item.label, CropSource(plan, regions.view(-1), places), chunk)


def _joined(chunks: Sequence[RegionScores], classes: int, *, with_svm: bool) -> RegionScores:
    def rows(part: Callable[[RegionScores], Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
        return np.concatenate([np.empty((0, classes), dtype), *map(part, chunks)])

    return RegionScores(
        rows(lambda each: each.first_model, np.float32),
        rows(lambda each: each.mean_softmax, np.float64),
        rows(lambda each: each.margins, np.float32) if with_svm else None,
    )
