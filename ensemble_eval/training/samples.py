"""Samples of images for training and validation, and their batches.

Images are decoded from their files each time, or all of them once into shared memory.
"""

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET, Protocol
from ensemble_eval.datasets.items import Item
from ensemble_eval.errors import UnreadableImageError, refusing
from ensemble_eval.jobs.signals import handles_its_own_signals
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.seeds import derived_seed

_CHUNK_BYTES = 1 << 26
# Batches that each loading process keeps ready.
_PREFETCHED = 4


class SampleKey(NamedTuple):
    """A training patch: everything random about it follows from these two and the member's seed."""

    epoch: int
    image: int


class Unreadable(NamedTuple):
    """An image that was left out of its batch."""

    image: str
    reason: str


class Sample(NamedTuple):
    """A patch uint8 [3, S, S], and its label: a class index, or boxes float [objects, 4]."""

    image: Tensor
    label: int | Tensor


class LabelledBatch(NamedTuple):
    """uint8 images [B, 3, S, S], channels last, and labels; unreadable images are left out, never replaced.

    Labels are class indices [B], or the boxes of the objects, float [B, most objects, 4], with rows of NaN for
    images with fewer objects.
    """

    images: Tensor
    labels: Tensor
    unreadable: list[Unreadable]


class ImageSource(ABC):
    """Labelled images that can be decoded any number of times, from several processes.

    Attributes:
        items: The images, by index.
    """

    items: Sequence[Item]

    @abstractmethod
    def decode(self, index: int) -> Tensor:
        """The image as uint8 [3, H, W].

        Raises:
            UnreadableImageError: It cannot be decoded.
        """

    def training_sample(self, key: SampleKey, augmentation: Augmentation, seed: int) -> Sample:
        """What members learn from an image in an epoch: a random patch."""
        patch = augmentation(self.decode(key.image), key.epoch, derived_seed("patch", seed, *key))
        return Sample(patch, self.items[key.image].label)

    def validation_sample(self, index: int, size: int) -> Sample:
        """What validation sees of an image: the crop of the 1-crop scheme."""
        return Sample(centre_crop(self.decode(index), size), self.items[index].label)


@dataclass(frozen=True)
class ImageFiles(ImageSource):
    """Decodes an image from its file at each call."""

    items: Sequence[Item]

    def decode(self, index: int) -> Tensor:
        """The image as uint8 [3, H, W]."""
        return pixels.decode(self.items[index].read())


class _Place(NamedTuple):
    chunk: int
    start: int
    height: int
    width: int


class DecodedImages(ImageSource):
    """Decodes all images once, in threads, into a few large tensors that loading processes share.

    Args:
        items: The images.
        threads: The number of threads; Pillow releases the interpreter's lock while it decodes.

    Raises:
        InputError: The images do not fit into shared memory.
    """

    def __init__(self, items: Sequence[Item], threads: int) -> None:
        self.items = items
        self._chunks: list[Tensor] = []
        self._used = 0
        executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            # An image that cannot be decoded keeps its reason, so that both sources behave alike.
            self._places = [
                outcome if isinstance(outcome, str) else self._store(outcome)
                for outcome in executor.map(_decode_or_reason, items)
            ]
        finally:
            # A request to stop does not wait for the thousands of images that are left.
            executor.shutdown(wait=False, cancel_futures=True)

    def decode(self, index: int) -> Tensor:
        """The image as uint8 [3, H, W], a view of the shared memory: do not write to it."""
        place = self._places[index]
        if isinstance(place, str):
            raise UnreadableImageError(place)
        flat = self._chunks[place.chunk][place.start : place.start + place.height * place.width * 3]
        return flat.view(place.height, place.width, 3).permute(2, 0, 1)

    def _store(self, image: Tensor) -> _Place:
        _, height, width = image.shape
        if not self._chunks or self._used + image.numel() > len(self._chunks[-1]):
            remedy = "set cache_decoded = false, or make /dev/shm larger"
            with refusing("the decoded images do not fit into shared memory", remedy, RuntimeError):
                chunk = torch.empty(max(_CHUNK_BYTES, image.numel()), dtype=torch.uint8)
                self._chunks.append(chunk.share_memory_())  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._used = 0
        place = _Place(len(self._chunks) - 1, self._used, height, width)
        self._used += image.numel()
        # Interleaved, as Pillow decodes: torchvision's resizing is twice as fast on it as on planes.
        self._chunks[-1][place.start : self._used].view(height, width, 3).copy_(image.permute(1, 2, 0))
        return place


def _decode_or_reason(item: Item) -> Tensor | str:
    try:
        return pixels.decode(item.read())
    except UnreadableImageError as error:
        return str(error)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """uint8 [3, H, W] -> uint8 [3, size, size]; at 224 the first of the 144 crops."""
    _, height, width = image.shape
    scale = round(size * GOOGLENET.scales[0] / GOOGLENET.size)
    protocol = Protocol(name="validation", size=size, scales=(scale,), schemes=(1,))
    source = pixels.prepare(image, CropRule((protocol,), 1).plan(width, height))
    return source.cut(source.plan.views[0])


@dataclass(frozen=True)
class Samples(Dataset[Sample | Unreadable]):
    """Training samples by `SampleKey`, and validation samples by index."""

    source: ImageSource
    augmentation: Augmentation
    seed: int

    def __getitem__(self, key: SampleKey | int) -> Sample | Unreadable:
        """The sample, or the reason why there is none."""
        try:
            with _one_thread():
                if isinstance(key, int):
                    return self.source.validation_sample(key, self.augmentation.size)
                return self.source.training_sample(key, self.augmentation, self.seed)
        except UnreadableImageError as error:
            return Unreadable(self.source.items[key if isinstance(key, int) else key.image].id, str(error))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, as loading processes do, because the number changes the last bits of sums over pixels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def step_batches(
    images: int, batch_size: int, seed: int, epochs: int, first_step: int = 0, rank: int = 0, world: int = 1
) -> Iterator[list[SampleKey]]:
    """The keys of every step from `first_step` on, for one rank of several, which share each batch.

    Each epoch has its own order, drawn from (seed, epoch). An incomplete batch at its end is dropped, so that all
    steps are alike; in each epoch this leaves out other images.
    """
    steps = images // batch_size
    for epoch in range(first_step // steps, epochs):
        order = epoch_order(images, seed, epoch)
        for step in range(max(first_step - epoch * steps, 0), steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            yield [SampleKey(epoch, index) for index in batch[rank::world]]


def epoch_order(images: int, seed: int, epoch: int) -> list[int]:
    """All image indices in the order of one epoch of one member."""
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    return torch.randperm(images, generator=generator).tolist()


def load(
    samples: Samples, keys: Iterable[Sequence[object]], workers: int, *, pin_memory: bool
) -> Iterable[LabelledBatch]:
    """Batches in the order of the keys, made ahead of time by so many processes (0: in this process)."""
    return DataLoader(
        samples,
        batch_sampler=keys,  # type: ignore[arg-type]  # any iterable of keys serves
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        prefetch_factor=_PREFETCHED if workers else None,
        worker_init_fn=_leave_signals_to_the_trainer if workers else None,
        # Without a generator of its own, the loader would draw from the global one.
        generator=torch.Generator(),
    )


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Ignore the signals that reach all processes of a group; the trainer tells the user.

    A loader that died of a signal would be reported as a fault, so it ends with 0.
    """
    handles_its_own_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _collate(samples: Sequence[Sample | Unreadable]) -> LabelledBatch:
    readable = [sample for sample in samples if isinstance(sample, Sample)]
    unreadable = [sample for sample in samples if isinstance(sample, Unreadable)]
    boxes = [sample.label for sample in readable if isinstance(sample.label, Tensor)]
    labels = (
        torch.nn.utils.rnn.pad_sequence(boxes, batch_first=True, padding_value=torch.nan)
        if boxes
        else torch.tensor([sample.label for sample in readable], dtype=torch.long)
    )
    if not readable:
        return LabelledBatch(torch.empty(0, 3, 0, 0, dtype=torch.uint8), labels, unreadable)
    images = torch.stack([sample.image for sample in readable])
    return LabelledBatch(images.contiguous(memory_format=torch.channels_last), labels, unreadable)
