"""The task of training one member: its networks, batches, loss and errors, and what stays the same throughout."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import BatchSampler

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models import registry
from ensemble_eval.models.googlenet import GoogLeNetOutputs
from ensemble_eval.models.stages import without_auxiliary_heads
from ensemble_eval.training import samples
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.config import MemberPlan, Recipe
from ensemble_eval.training.processes import Processes
from ensemble_eval.training.seeds import derived_seed, seeded

INFERENCE_BATCH_SIZE = 100


@dataclass(frozen=True)
class TrainingData:
    """The images that members learn from, and those that validate them."""

    train: samples.ImageSource
    val: samples.ImageSource
    num_classes: int


@dataclass(frozen=True)
class Site:
    """Where training runs: the device, the processes, and the loading processes that each of these starts."""

    device: torch.device
    processes: Processes
    workers: int

    @property
    def reading_is_free(self) -> bool:
        """Whether a tensor's value can be read without waiting for earlier work of the device."""
        return self.device.type == "cpu"


@dataclass(frozen=True)
class ValidationErrors:
    """Counts of images: all that were seen, and those decided wrongly; and the images that could not be read."""

    images: int
    top1_wrong: int
    top5_wrong: int
    unreadable: tuple[samples.Unreadable, ...] = ()

    @property
    def percent(self) -> tuple[float, float]:
        """The top-1 and the top-5 error in percent; NaN if no image was seen."""
        if not self.images:
            return math.nan, math.nan
        return 100 * self.top1_wrong / self.images, 100 * self.top5_wrong / self.images


@dataclass(frozen=True)
class Task:
    """Everything about the training of one classifier that does not change while it runs."""

    recipe: Recipe
    plan: MemberPlan
    data: TrainingData
    site: Site

    def __post_init__(self) -> None:
        images, world = len(self.data.train.items), self.site.processes.world_size
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
        """The number of whole batches in an epoch; the incomplete batch at its end is dropped."""
        return len(self.data.train.items) // self.recipe.schedule.batch_size

    @property
    def steps(self) -> int:
        """The number of steps of the whole schedule."""
        return self.recipe.schedule.epochs * self.steps_per_epoch

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> the network's input on the device, channels last."""
        pixels: Tensor = self._preprocess(images.to(self.site.device, non_blocking=True))
        return pixels.contiguous(memory_format=torch.channels_last)

    def training_batches(self, first_step: int) -> Iterable[samples.LabelledBatch]:
        """This process's share of every batch from `first_step` on."""
        schedule, processes = self.recipe.schedule, self.site.processes
        images, shard = len(self.data.train.items), (processes.rank, processes.world_size)
        keys = samples.step_batches(
            images, schedule.batch_size, self.plan.seed, schedule.epochs, first_step, *shard
        )
        return self._load(self.data.train, keys)

    def new_network(self, *, auxiliary_heads: bool) -> nn.Module:
        """A network with weights drawn from torch's global generator."""
        network = self.recipe.network
        return registry.build(
            network.arch,
            self.data.num_classes,
            auxiliary_heads=auxiliary_heads,
            width=self.plan.width,
            dropout=network.dropout,
            auxiliary_dropout=network.auxiliary_dropout,
        )

    def trunk(self, network: nn.Module) -> nn.Module:
        """The part of a network that may begin with the weights of another."""
        return network

    def initial_network(self) -> nn.Module:
        """The network before training, with auxiliary heads if their loss counts.

        The weights follow from the recipe's `init_seed`, so members of one width start from the same weights. If
        the recipe names trained members to begin with, all weights but those of the last layer are theirs.

        Raises:
            InputError: There is no such trained member, or it has another width.
        """
        with seeded(derived_seed("initial weights", self.recipe.network.init_seed)):
            network = self.new_network(auxiliary_heads=self.recipe.schedule.auxiliary_weight > 0)
        if (path := self.recipe.initial_weights(self.plan)) is not None:
            _begin_with(self.trunk(network), read_weights(path).tensors, path, self.plan)
        return network

    def inference_network(self, trained: nn.Module, *, averaged: bool, epoch: int) -> nn.Module:
        """The network for inference with the weights of `trained`, in eval mode. All processes must call this.

        Args:
            trained: A network with or without auxiliary heads.
            averaged: Whether its weights are averages, which need new batch-norm statistics.
            epoch: The epoch whose patches give these statistics.
        """
        with seeded(0):
            network = self.new_network(auxiliary_heads=False)
        network.load_state_dict(without_auxiliary_heads(trained.state_dict()))
        network.eval()
        network.to(self.site.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads omit it
        if averaged:
            with full_float32(), self._autocast():
                refresh_batch_norm(network, self._statistics_images(epoch))
            _share_batch_norm(network, self.site.processes)
        return network

    def judge(self, network: nn.Module) -> ValidationErrors:
        """The errors of a network on the validation images, which the processes share.

        All processes must call this with equal networks.
        """
        network.eval()
        keys = list(BatchSampler(range(len(self.data.val.items)), INFERENCE_BATCH_SIZE, drop_last=False))
        counts, unreadable = list[Tensor](), list[samples.Unreadable]()
        with torch.inference_mode():
            for batch in self._load(self.data.val, self._share(keys)):
                unreadable += batch.unreadable
                if len(batch.labels):
                    with full_float32(), self._autocast():
                        outputs = network(self.normalised(batch.images))
                    counts.append(self.count_errors(network, outputs, batch.labels))
        mine = torch.stack(counts).sum(0).tolist() if counts else [0, 0, 0]
        parts = self.site.processes.gather((mine, unreadable))
        images, top1_wrong, top5_wrong = map(sum, zip(*(part for part, _ in parts), strict=True))
        every_unreadable = tuple(sorted(image for _, part in parts for image in part))
        return ValidationErrors(images, top1_wrong, top5_wrong, every_unreadable)

    def count_errors(self, network: nn.Module, outputs: Any, labels: Tensor) -> Tensor:  # noqa: ARG002 (others need it)
        """Counts int64 [3]: the images of a batch, and those whose top-1 and whose top-5 decision is wrong.

        They stay on the device of the outputs, because reading a count would wait for them.
        """
        ranks = label_ranks(outputs.float(), labels.to(outputs.device, non_blocking=True))
        return torch.stack([(ranks >= least).sum() for least in (0, 1, 5)])

    def loss(self, network: nn.Module, batch: samples.LabelledBatch) -> Tensor:
        """The loss of one batch, auxiliary heads included, as a float32 scalar."""
        schedule = self.recipe.schedule
        with self._autocast():
            outputs = network(self.normalised(batch.images))
        labels = batch.labels.to(self.site.device, non_blocking=True)
        return training_loss(outputs, labels, schedule.auxiliary_weight, schedule.label_smoothing)

    def _statistics_images(self, epoch: int) -> Iterable[Tensor]:
        """This process's share of patches as in training, in whole batches, so that each counts alike."""
        order = samples.epoch_order(len(self.data.train.items), self.plan.seed, epoch)
        chosen = order[: self.recipe.schedule.batch_norm_images]
        batches = list(BatchSampler(chosen, min(INFERENCE_BATCH_SIZE, len(chosen)), drop_last=True))
        keys = [[samples.SampleKey(epoch, index) for index in batch] for batch in self._share(batches)]
        for batch in self._load(self.data.train, keys):
            if len(batch.labels):
                yield self.normalised(batch.images)

    def _share(self, batches: Sequence[list[int]]) -> Sequence[list[int]]:
        """This process's batches; each is the same whatever the number of processes."""
        return batches[self.site.processes.rank :: self.site.processes.world_size]

    def _load(
        self, source: samples.ImageSource, keys: Iterable[Sequence[object]]
    ) -> Iterable[samples.LabelledBatch]:
        augmentation = Augmentation(self.plan.sampling, self.recipe.network.crop_size)
        pins = self.site.device.type == "cuda"
        return samples.load(
            samples.Samples(source, augmentation, self.plan.seed), keys, self.site.workers, pin_memory=pins
        )

    def _autocast(self) -> torch.autocast:
        """The context in which networks run in the recipe's precision; in float32 it changes nothing."""
        bfloat16 = self.recipe.precision == "bfloat16"
        return torch.autocast(self.site.device.type, torch.bfloat16, enabled=bfloat16)

    @cached_property
    def _preprocess(self) -> Preprocessing:
        return Preprocessing(InputFormat()).to(self.site.device)


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """The label rank of each image of a batch: scores [B, classes] and labels [B] -> label ranks [B].

    It counts the classes with a higher score than the label, and those of an equal score and a lower index. A row
    with NaN has the number of classes, which is never right.
    """
    own = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    ranks = (scores > own).sum(1) + ((scores == own) & lower).sum(1)
    return torch.where(scores.isnan().any(1), scores.shape[1], ranks)


def training_loss(
    outputs: Tensor | GoogLeNetOutputs, labels: Tensor, auxiliary_weight: float, label_smoothing: float
) -> Tensor:
    """Cross-entropy of the main output plus, weighted, of each auxiliary head (section 5), in float32.

    Args:
        outputs: Logits [B, classes], alone or with those of the heads.
        labels: Class indices [B].
        auxiliary_weight: 0.3 in the paper.
        label_smoothing: 0 in the paper.
    """
    heads = (outputs,) if isinstance(outputs, Tensor) else outputs
    losses = [
        nn.functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing) for logits in heads
    ]
    return losses[0] + auxiliary_weight * sum(losses[1:])


def refresh_batch_norm(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Compute the batch-norm statistics anew, as the mean over batches that count alike.

    Averaged weights have other activations than any iterate, so the statistics of training do not fit them.
    Images are normalised floats [B, 3, S, S]. A network without batch norm stays as it is.
    """
    update_bn(images, network)
    network.eval()


def _share_batch_norm(network: nn.Module, processes: Processes) -> None:
    """Give a network the statistics over the batches of all processes. All processes must call this."""
    # As Any, because torch's annotations have the statistics perhaps missing.
    layers: list[Any] = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if processes.world_size == 1:
        return
    sums = []
    for layer in layers:
        count = layer.num_batches_tracked.double()
        means, variances = layer.running_mean.double() * count, layer.running_var.double() * count
        sums.append(torch.cat([count.reshape(1), means, variances]).cpu())
    for layer, parts in zip(layers, zip(*processes.gather(sums), strict=True), strict=True):
        count, mean, var = torch.split(torch.stack(parts).sum(0), [1, layer.num_features, layer.num_features])
        if count > 0:
            layer.num_batches_tracked.fill_(int(count))
            layer.running_mean.copy_(mean / count)
            layer.running_var.copy_(var / count)


def _begin_with(network: nn.Module, given: Mapping[str, Tensor], path: Path, plan: MemberPlan) -> None:
    """Take over the weights of a trained network, without its heads and its last layer, which fit other classes.

    Raises:
        InputError: A tensor is missing, or has another shape.
    """
    fresh = network.state_dict()
    needed = [name for name in without_auxiliary_heads(fresh) if not name.startswith("fc.")]
    for name in needed:
        if name not in given or given[name].shape != fresh[name].shape:
            raise InputError(
                f"member {plan.name} cannot begin with {path}: {name} is missing there or of another shape; give "
                "the member the architecture and the width of that file"
            )
    network.load_state_dict({name: given[name] for name in needed}, strict=False)
