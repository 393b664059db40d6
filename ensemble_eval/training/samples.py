"""Batches for training, for batch-norm statistics and for validation."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.launch.signals import handles_its_own_signals
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.images import ImageSource
from ensemble_eval.training.seeds import derived_seed

# Batches that each loading process keeps ready.
_PREFETCHED = 4


class SampleKey(NamedTuple):
    """Which patch: everything random about it follows from these two and the member's seed."""

    epoch: int
    image: int


class Unreadable(NamedTuple):
    """An image that was left out of its batch."""

    image: str
    reason: str


class LabelledBatch(NamedTuple):
    """uint8 images [B, 3, S, S], channels last, and labels [B]; unreadable images are left out, never replaced."""

    images: Tensor
    labels: Tensor
    unreadable: list[Unreadable]


class Sample(NamedTuple):
    """What is learnt from an image: a patch uint8 [3, S, S], and its class index, or boxes float [objects, 4]."""

    image: Tensor
    label: int | Tensor


@dataclass(frozen=True)
class TrainingPatches(Dataset[Sample | Unreadable]):
    """Random patches by `SampleKey`."""

    source: ImageSource
    augmentation: Augmentation
    seed: int

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        """The patch of one image in one epoch."""
        item = self.source.items[key.image]
        try:
            image = self.source.decode(key.image)
        except UnreadableImageError as error:
            return Unreadable(item.id, str(error))
        seed = derived_seed("patch", self.seed, key.epoch, key.image)
        return Sample(self.augmentation(image, key.epoch, seed), item.label)


@dataclass(frozen=True)
class ValidationCrops(Dataset[Sample | Unreadable]):
    """What errors are counted on, by index: of pictures the crop of the 1-crop scheme, of regions the whole."""

    source: ImageSource
    crop_size: int

    def __len__(self) -> int:
        return len(self.source.items)

    def __getitem__(self, index: int) -> Sample | Unreadable:
        """The crop of one image."""
        item = self.source.items[index]
        try:
            return Sample(self.source.validation_crop(index, self.crop_size), item.label)
        except UnreadableImageError as error:
            return Unreadable(item.id, str(error))


@dataclass(frozen=True)
class StepBatches(Sampler[list[SampleKey]]):
    """The keys of every step from `first_step` on, for one process of several.

    Each epoch has its own order, drawn from (seed, epoch). An incomplete batch at its end is dropped, so
    that all steps are alike; the order being new each time, that falls on other images in each epoch.

    Attributes:
        images: how many there are.
        batch_size: of all processes together, which take turns in it.
    """

    images: int
    batch_size: int
    seed: int
    epochs: int
    first_step: int = 0
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.images // self.batch_size

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first_epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = epoch_order(self.images, self.seed, epoch)
            for step in range(skipped if epoch == first_epoch else 0, self.steps_per_epoch):
                batch = order[step * self.batch_size : (step + 1) * self.batch_size]
                yield [SampleKey(epoch, index) for index in batch[self.rank :: self.world]]


def epoch_order(images: int, seed: int, epoch: int) -> list[int]:
    """All image indices in the order of one epoch of one member."""
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    order: list[int] = torch.randperm(images, generator=generator).tolist()
    return order


def load(
    dataset: Dataset[Sample | Unreadable],
    keys: Sampler[list[SampleKey]] | Sequence[Sequence[object]],
    workers: int,
    *,
    pin_memory: bool,
) -> Iterable[LabelledBatch]:
    """Batches in the order of `keys`, made by `workers` processes ahead of time (0: in this one).

    Labels of images are class indices [B], or the objects that they show, float [B, most objects, 4], where rows
    that no object has are NaN.
    """
    return DataLoader(
        dataset,
        batch_sampler=keys,  # type: ignore[arg-type]  # any iterable of keys serves
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        prefetch_factor=_PREFETCHED if workers else None,
        worker_init_fn=_leave_signals_to_the_trainer if workers else None,
        # Its own, unused: the loader would otherwise draw from the global generator.
        generator=torch.Generator(),
    )


def in_batches(count: int, batch_size: int) -> list[range]:
    """The indices 0 … count - 1 in order, in batches of which the last may be smaller."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """An interrupt reaches all processes of a group; the trainer says what there is to say.

    A loader that died of a signal would be reported as a fault, so it ends with 0.
    """
    handles_its_own_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _collate(samples: Sequence[Sample | Unreadable]) -> LabelledBatch:
    readable = [sample for sample in samples if isinstance(sample, Sample)]
    unreadable = [sample for sample in samples if isinstance(sample, Unreadable)]
    labels = _stacked([sample.label for sample in readable])
    if not readable:
        return LabelledBatch(torch.empty(0, 3, 0, 0, dtype=torch.uint8), labels, unreadable)
    images = torch.stack([sample.image for sample in readable])
    return LabelledBatch(images.contiguous(memory_format=torch.channels_last), labels, unreadable)


def _stacked(labels: Sequence[int | Tensor]) -> Tensor:
    boxes = [label for label in labels if isinstance(label, Tensor)]
    if not boxes:
        return torch.tensor(labels, dtype=torch.long)
    return torch.nn.utils.rnn.pad_sequence(boxes, batch_first=True, padding_value=torch.nan)
