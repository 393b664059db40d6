"""One member's task: its plan, images and site, and the batches and networks that follow from them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.training import networks
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.images import ImageSource
from ensemble_eval.training.processes import Processes
from ensemble_eval.training.samples import (
    LabelledBatch,
    Sample,
    SampleKey,
    StepBatches,
    TrainingPatches,
    Unreadable,
    ValidationCrops,
    epoch_order,
    in_batches,
    load,
)
from ensemble_eval.training.validation import ValidationErrors, together, validate

Batch = TypeVar("Batch")

INFERENCE_BATCH_SIZE = 100


@dataclass(frozen=True)
class TrainingData:
    """What members learn from and are judged by."""

    train: ImageSource
    val: ImageSource
    num_classes: int


@dataclass(frozen=True)
class Site:
    """Where training runs: the device, the processes, and how many loaders each of them starts."""

    device: torch.device
    processes: Processes
    workers: int

    @property
    def reading_is_free(self) -> bool:
        """Whether a tensor's value can be read without waiting for what was asked of the device before."""
        return self.device.type == "cpu"


@dataclass(frozen=True)
class Task:
    """Everything about one member's training that does not change while it runs."""

    recipe: Recipe
    plan: MemberPlan
    data: TrainingData
    site: Site

    def __post_init__(self) -> None:
        images, world = len(self.data.train.items), self.site.processes.world
        batch_size = self.recipe.schedule.batch_size
        if batch_size > images:
            raise InputError(
                f"batch_size is {batch_size}, and there are only {images} training images; lower batch_size"
            )
        if batch_size % world:
            raise InputError(
                f"batch_size is {batch_size}, which {world} processes cannot share evenly; "
                f"take a multiple of {world}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the incomplete one at its end is dropped."""
        return len(self.data.train.items) // self.recipe.schedule.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole schedule."""
        return self.recipe.schedule.epochs * self.steps_per_epoch

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> the network's input on the device, channels last."""
        pixels: Tensor = self._preprocess(images.to(self.site.device, non_blocking=True))
        return pixels.contiguous(memory_format=torch.channels_last)

    def training_batches(self, first_step: int) -> Iterable[LabelledBatch]:
        """This process's share of every batch from `first_step` on."""
        keys = StepBatches(
            len(self.data.train.items),
            self.recipe.schedule.batch_size,
            self.plan.seed,
            self.recipe.schedule.epochs,
            first_step,
            self.site.processes.rank,
            self.site.processes.world,
        )
        return load(self._patches(), keys, self.site.workers, pin_memory=self._pins_memory)

    def initial_network(self) -> nn.Module:
        """The network before training; its weights follow from the recipe and the data alone."""
        return networks.initial_network(self.recipe, self.plan, self.data.num_classes)

    def inference_network(self, trained: nn.Module, *, averaged: bool, epoch: int) -> nn.Module:
        """The network for inference with the weights of `trained`. All processes must call this.

        Args:
            trained: with or without auxiliary heads.
            averaged: whether its batch-norm statistics need to be taken anew.
            epoch: whose patches they are taken from.
        """
        network = self.without_heads(trained)
        network.to(self.site.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads omit it
        if averaged:
            with full_float32(), self._autocast():
                networks.refresh_batch_norm(network, self._statistics_images(epoch))
            if self.site.processes.world > 1:
                sums = self.site.processes.gather(networks.batch_norm_sums(network))
                networks.set_batch_norm(network, sums)
        return network

    def without_heads(self, trained: nn.Module) -> nn.Module:
        """A network for inference with the weights and buffers of `trained`, in eval mode."""
        return networks.inference_network(self.recipe, self.plan, self.data.num_classes, trained)

    def judge(self, network: nn.Module) -> ValidationErrors:
        """The errors of a network on the validation images' crops, of which each process takes its share.

        All processes must call this, with networks that are equal.
        """
        crops = ValidationCrops(self.data.val, self.recipe.network.crop_size)
        keys = self._share(in_batches(len(crops), INFERENCE_BATCH_SIZE))
        network.eval()

        def logits_of(images: Tensor) -> Tensor:
            with full_float32(), self._autocast():
                logits: Tensor = network(self.normalised(images))
            return logits

        mine = validate(logits_of, load(crops, keys, self.site.workers, pin_memory=self._pins_memory))
        return together(self.site.processes.gather(mine))

    def loss(self, network: nn.Module, batch: LabelledBatch) -> Tensor:
        """The loss of one batch, auxiliary heads included, as a float32 scalar."""
        schedule = self.recipe.schedule
        with self._autocast():
            outputs = network(self.normalised(batch.images))
        labels = batch.labels.to(self.site.device, non_blocking=True)
        return networks.training_loss(outputs, labels, schedule.auxiliary_weight, schedule.label_smoothing)

    def _statistics_images(self, epoch: int) -> Iterator[Tensor]:
        """This process's share of patches as in training, in whole batches: each counts alike in the mean."""
        order = epoch_order(len(self.data.train.items), self.plan.seed, epoch)
        chosen = order[: self.recipe.schedule.batch_norm_images]
        size = min(INFERENCE_BATCH_SIZE, len(chosen))
        keys = [
            [SampleKey(epoch, chosen[position]) for position in batch]
            for batch in in_batches(len(chosen), size)
            if len(batch) == size
        ]
        patches = self._patches()
        for batch in load(patches, self._share(keys), self.site.workers, pin_memory=self._pins_memory):
            if len(batch.labels):
                yield self.normalised(batch.images)

    def _share(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Whole batches, so that each is the same whatever the number of processes."""
        return batches[self.site.processes.rank :: self.site.processes.world]

    def _patches(self) -> Dataset[Sample | Unreadable]:
        augmentation = Augmentation(self.plan.sampling, self.recipe.network.crop_size)
        return TrainingPatches(self.data.train, augmentation, self.plan.seed)

    def _autocast(self) -> torch.autocast:
        return networks.autocast(self.site.device, self.recipe.precision)

    @cached_property
    def _preprocess(self) -> Preprocessing:
        return Preprocessing(InputFormat()).to(self.site.device)

    @property
    def _pins_memory(self) -> bool:
        return self.site.device.type == "cuda"
