"""Regions through the engine of classification: an image's regions are its crops, some of them at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.crops import pixels
from ensemble_eval.crops.pixels import CropSource, Region
from ensemble_eval.crops.schemes import CROP_SIZE, CropPlan, View
from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.datasets.items import Item
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.errors import UnreadableImageError

# 19 MiB of pixels: an image of thousands of regions is never warped at once.
CHUNK_REGIONS = 128
_REGION_BYTES = 3 * CROP_SIZE * CROP_SIZE


@dataclass(frozen=True)
class Chunk:
    """Some of an image's regions.

    Attributes:
        position: of the image in the data set; it decides which rows of a batch the regions may take.
        item: the image.
        first: index of the first region among the image's.
        boxes: float64 [regions, 4].
    """

    position: int
    item: Item
    first: int
    boxes: Boxes


@dataclass(frozen=True)
class ChunkScores:
    """What the members say of a chunk.

    Attributes:
        image: its id.
        first: index of the first region among the image's.
        first_model: float32 [regions, classes], softmax of the first member.
        mean_softmax: float64 [regions, classes], the mean over all members.
        margins: float32 [regions, classes] of the SVMs; None where there are none.
    """

    image: str
    first: int
    first_model: NDArray[np.float32]
    mean_softmax: NDArray[np.float64]
    margins: NDArray[np.float32] | None = None


def chunks_of(position: int, item: Item, boxes: Boxes) -> Iterator[Chunk]:
    """An image's regions in their order, some at a time."""
    for first in range(0, len(boxes), CHUNK_REGIONS):
        yield Chunk(position, item, first, boxes[first : first + CHUNK_REGIONS])


def warp_chunk(chunk: Chunk) -> ReadyImage | UnreadableImage:
    """Decode an image and warp some of its regions, ready for the engine; its label is the first of them."""
    try:
        image = pixels.decode(chunk.item.read())
    except UnreadableImageError as error:
        return UnreadableImage(chunk.item.id, str(error))
    warped = warp_regions(image, chunk.boxes).permute(0, 2, 3, 1).contiguous()
    source = CropSource(_plan(len(warped)), warped.view(-1), _places(len(warped)))
    return ReadyImage(chunk.position, chunk.item.id, chunk.first, source)


def _plan(regions: int) -> CropPlan:
    """A plan whose crops are the regions, each a whole view that lies ready."""
    return CropPlan(_views(regions), {regions: (1,) * regions}, tuple(range(regions)))


def _views(regions: int) -> tuple[View, ...]:
    return tuple(View(CROP_SIZE, index, 0, CROP_SIZE, mirrored=False) for index in range(regions))


def _places(regions: int) -> dict[int | View, Region]:
    views = _views(regions)
    return {view: Region(index * _REGION_BYTES, CROP_SIZE, CROP_SIZE) for index, view in enumerate(views)}


class ScoredChunk(PooledImage[ChunkScores]):
    """A chunk in the engine's pool.

    Args:
        image: of `warp_chunk`.
        members: how many.
        classes: of the members.
        with_svm: whether SVMs follow the members.
    """

    def __init__(self, image: ReadyImage, members: int, classes: int, *, with_svm: bool = False) -> None:
        super().__init__(image, members + with_svm)
        self._members = members
        regions = len(image.source.plan.views)
        self._first_model = np.empty((regions, classes), np.float32)
        self._mean_softmax = np.empty((regions, classes), np.float64)
        self._margins = np.empty((regions, classes), np.float32) if with_svm else None
        self._left = regions

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """See `PooledImage`; all members run together, in their order."""
        assert members[0] == 0
        self._first_model[view] = probabilities[0]
        self._mean_softmax[view] = probabilities[: self._members].astype(np.float64).mean(axis=0)
        if self._margins is not None:
            self._margins[view] = probabilities[-1]
        self._left -= 1

    def result(self) -> ChunkScores | None:
        """See `PooledImage`."""
        if self._left:
            return None
        return ChunkScores(self.image.id, self.image.label, self._first_model, self._mean_softmax, self._margins)


def pixel_bytes(image: ReadyImage | UnreadableImage) -> int:
    """Memory that a warped chunk takes."""
    return image.source.pixels.nbytes if isinstance(image, ReadyImage) else 0
