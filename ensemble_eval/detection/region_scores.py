"""Scores of regions from the engine that classifies crops: the regions of an image take the part of its crops."""

import contextlib
import functools
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.pixels import CropSource, Region
from ensemble_eval.crops.plan import CropPlan, CropRule, ViewGroup
from ensemble_eval.crops.protocols import Protocol
from ensemble_eval.crops.views import Canvas, View
from ensemble_eval.datasets.items import Item
from ensemble_eval.detection.proposals import Proposals, all_regions
from ensemble_eval.detection.regions import warp_regions
from ensemble_eval.engine.full_scores import CropProbabilities
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.jobs.prefetch import interruptible, pillow_silenced, pixel_bytes, prefetched
from ensemble_eval.jobs.signals import StopRequests

# 19 MiB of pixels: an image of thousands of regions is never warped at once.
CHUNK_REGIONS = 128
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

    def warp(self, first: int, sizes: Iterable[int]) -> list[Tensor]:
        """A chunk of regions in each size, uint8 [regions, 3, size, size]; threads may warp several at once.

        Raises:
            UnreadableImageError: The image cannot be decoded.
        """
        boxes = self.boxes[first : first + CHUNK_REGIONS]
        with self._lock:
            image = pixels.decode(self.item.read()) if self._decoded is None else self._decoded
            self._not_warped -= len(boxes)
            # Decoded once, and kept no longer than it is needed.
            self._decoded = image if self._not_warped else None
        return [warp_regions(image, boxes, size) for size in sizes]


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
        super().__init__(image)
        self._chunk, self._members = image, members
        with_svm = image.of.scores.margins is not None
        classes = image.of.scores.first_model.shape[1]
        self._probabilities = CropProbabilities(image.source.plan, members + with_svm, classes)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        """Keep the probabilities of a region."""
        self._probabilities.keep(view, members, probabilities)

    def result(self) -> _WarpedChunk | None:
        """Write the scores into those of the image once every member has run every region; until then None."""
        if not self._probabilities.complete:
            return None
        scores = self._probabilities.by_crop()
        of, chunk = self._chunk.of.scores, slice(self._chunk.first, self._chunk.first + len(scores))
        of.first_model[chunk] = scores[:, 0]
        of.mean_softmax[chunk] = scores[:, : self._members].astype(np.float64).mean(axis=1)
        if of.margins is not None:
            of.margins[chunk] = scores[:, -1]
        return self._chunk


def score_regions(
    images: Iterable[ImageRegions],
    engine: Engine[_WarpedChunk],
    rule: CropRule,
    *,
    loaders: int,
    stop: StopRequests,
) -> Generator[ImageRegions, None, None]:
    """Score the regions of images, and yield each image once all of its regions have scores.

    Args:
        images: The images; each is asked for when it is needed.
        engine: An engine whose pool makes `PooledRegions`.
        rule: The size of the regions that each member sees.
        loaders: The number of threads that warp regions while the members run.
        stop: A request to stop ends the wait for a region.

    Raises:
        InputError: An image cannot be read, or a member fails.
    """
    without_regions: list[ImageRegions] = []
    warped = prefetched(
        functools.partial(_warped, rule),
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
            chunk.of.missing -= chunk.source.plan.crops
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


def _warped(rule: CropRule, chunk: tuple[ImageRegions, int]) -> ReadyImage | UnreadableImage:
    of, first = chunk
    protocols = [rule.protocols[members[0]] for members in rule.groups]
    try:
        warped = [
            each.permute(0, 2, 3, 1).contiguous() for each in of.warp(first, (each.size for each in protocols))
        ]
    except UnreadableImageError as error:
        return UnreadableImage(of.item.id, str(error))
    count = len(warped[0])
    views, groups, regions, offset = list[View](), list[ViewGroup](), dict[Canvas | View, Region](), 0
    for protocol, members, pixels_of_group in zip(protocols, rule.groups, warped, strict=True):
        seen = range(len(views), len(views) + count)
        groups.append(ViewGroup(members, seen, {count: (1,) * count}, tuple(seen)))
        for index in range(count):
            # A region is its own box, which lies ready.
            view = View(protocol.canvas(protocol.size), index, 0, 0, protocol.size, mirrored=False)
            views.append(view)
            regions[view] = Region(offset, protocol.size)
            offset += pixels_of_group[index].numel()
    packed = torch.cat([each.view(-1) for each in warped])
    source = CropSource(CropPlan(tuple(views), tuple(groups)), packed, regions)
    return _WarpedChunk(of.position, of.item.id, of.item.label, source, of, first)


def region_rule(sizes: Iterable[int]) -> CropRule:
    """The rule of members that see each region once, warped to their own size."""
    protocols = (
        Protocol(name="regions", size=size, scales=(size,), fit="squeeze", schemes=(1,)) for size in sizes
    )
    return CropRule(tuple(protocols), 1)
