"""A MultiBox's task: whole pictures with the boxes of what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.ops import box_iou

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Objects, read_boxes
from ensemble_eval.detection.multibox import best_boxes
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.models.multibox import MultiBox, priors_of
from ensemble_eval.training import networks
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.images import ImageSource
from ensemble_eval.training.multibox import cluster_shapes, multibox_loss
from ensemble_eval.training.samples import LabelledBatch, Sample, SampleKey, Unreadable, in_batches, load
from ensemble_eval.training.seeds import derived_seed, seeded
from ensemble_eval.training.task import INFERENCE_BATCH_SIZE, Task
from ensemble_eval.training.validation import ValidationErrors, together

# Errors in the log: objects that none of so many best boxes finds.
FEW_BOXES, MANY_BOXES = 10, 100
_LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class WholePictures(Dataset[Sample | Unreadable]):
    """Pictures warped to a square, with the boxes of their objects as fractions, float32 [objects, 4].

    Ignored objects are left out. By `SampleKey`, mirrored and with other colours at random; by index, as they are.
    """

    source: ImageSource
    objects: Mapping[str, Objects]
    augmentation: Augmentation
    size: int
    seed: int

    def __getitem__(self, key: SampleKey | int) -> Sample | Unreadable:
        """One picture."""
        index = key if isinstance(key, int) else key.image
        item = self.source.items[index]
        try:
            image = self.source.decode(index)
        except UnreadableImageError as error:
            return Unreadable(item.id, str(error))
        boxes = _fractions(self.objects[item.id], image)
        picture = pixels.resize(image, self.size, self.size)
        if isinstance(key, int):
            return Sample(picture, boxes)
        with seeded(derived_seed("picture", self.seed, key.epoch, key.image)):
            if float(torch.rand(())) < 0.5:
                picture = picture.flip(2)
                boxes = torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], dim=1)
            return Sample(self.augmentation.distort(picture), boxes)


@dataclass(frozen=True)
class MultiBoxTask(Task):
    """Everything about a MultiBox's training that does not change while it runs.

    Attributes:
        train_objects: what each training picture shows, by its id.
        val_objects: the same of the validation pictures.
    """

    train_objects: Mapping[str, Objects]
    val_objects: Mapping[str, Objects]

    def initial_network(self) -> nn.Module:
        """See `Task`."""
        with seeded(derived_seed("initial weights", self.recipe.network.init_seed)):
            network = MultiBox(self._shapes, self.plan.width)
        path = networks.initial_weights(self.recipe, self.plan)
        if path is not None:
            networks.begin_with(network.trunk, read_weights(path).tensors, path, self.plan)
        return network

    def without_heads(self, trained: nn.Module) -> nn.Module:
        """See `Task`."""
        with seeded(0):
            network = MultiBox(self._shapes, self.plan.width)
        network.load_state_dict(trained.state_dict())
        return network.eval()

    def loss(self, network: nn.Module, batch: LabelledBatch) -> Tensor:
        """See `multibox_loss`."""
        assert self.recipe.multibox is not None
        with self._autocast():
            outputs = network(self.normalised(batch.images))
        objects = [_known(boxes) for boxes in batch.labels]
        return multibox_loss(outputs, self._priors, objects, self.recipe.multibox.location_weight)

    def judge(self, network: nn.Module) -> ValidationErrors:
        """Objects of the validation pictures that none of the ten best boxes finds, and none of the hundred best.

        They stand in the places of the top-1 and the top-5 errors, and objects in that of images.
        """
        assert isinstance(network, MultiBox)
        pictures = self._pictures(self.data.val, self.val_objects)
        keys = self._share(in_batches(len(self.data.val.items), INFERENCE_BATCH_SIZE))
        network.eval()
        shown, missed, unreadable = 0, [0, 0], list[Unreadable]()
        with torch.inference_mode():
            for batch in load(pictures, keys, self.site.workers, pin_memory=self._pins_memory):
                unreadable += batch.unreadable
                if len(batch.labels) == 0:
                    continue
                with full_float32(), self._autocast():
                    outputs = network(self.normalised(batch.images))
                for (boxes, _), objects in zip(
                    best_boxes(network, outputs, MANY_BOXES), map(_known, batch.labels), strict=True
                ):
                    found = box_iou(objects, boxes.cpu()) >= _LEAST_OVERLAP
                    shown += len(objects)
                    missed[0] += int((~found[:, :FEW_BOXES].any(dim=1)).sum())
                    missed[1] += int((~found.any(dim=1)).sum())
        mine = ValidationErrors(shown, missed[0], missed[1], tuple(unreadable))
        return together(self.site.processes.gather(mine))

    def _patches(self) -> Dataset[Sample | Unreadable]:
        return self._pictures(self.data.train, self.train_objects)

    def _pictures(self, source: ImageSource, objects: Mapping[str, Objects]) -> WholePictures:
        augmentation = Augmentation(self.plan.sampling, self.recipe.network.crop_size)
        return WholePictures(source, objects, augmentation, self.recipe.network.crop_size, self.plan.seed)

    @cached_property
    def _priors(self) -> Tensor:
        return priors_of(self._shapes)

    @cached_property
    def _shapes(self) -> list[list[tuple[float, float]]]:
        """The larger half of the clustered shapes for the coarser map."""
        assert self.recipe.multibox is not None
        sides = []
        for index, item in enumerate(self.data.train.items):
            try:
                boxes = _fractions(self.train_objects[item.id], self.data.train.decode(index))
            except UnreadableImageError:
                continue
            sides.append(boxes[:, 2:] - boxes[:, :2])
        count = self.recipe.multibox.shapes
        if len(all_sides := torch.cat(sides)) < count:
            raise InputError(
                f"the training pictures show {len(all_sides)} objects, too few for {count} shapes of boxes; lower "
                "`shapes` or give more pictures"
            )
        shapes = cluster_shapes(all_sides, count, derived_seed("shapes", self.recipe.network.init_seed))
        return [shapes[: count // 2], shapes[count // 2 :]]


def read_objects(source: ImageSource, boxes: Path, classes: Sequence[str]) -> Mapping[str, Objects]:
    """What the pictures of a source show; see `read_boxes`."""
    return read_boxes(boxes, classes, [item.id for item in source.items])


def _fractions(objects: Objects, image: Tensor) -> Tensor:
    """Boxes that count as fractions of their image, float32 [objects, 4]."""
    _, height, width = image.shape
    boxes = torch.from_numpy(objects.boxes[~objects.ignored])
    return (boxes / torch.tensor([width, height, width, height])).float().clamp(0, 1)


def _known(boxes: Tensor) -> Tensor:
    """Without the rows that only fill the batch."""
    return boxes[~boxes.isnan().any(dim=1)]
