"""The training of a MultiBox: its loss, its pictures and its task (Erhan et al., CVPR 2014)."""

import contextlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from ensemble_eval.crops import pixels
from ensemble_eval.datasets.boxes import Objects
from ensemble_eval.detection.multibox import best_boxes
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.models.multibox import MultiBox, MultiBoxOutputs, offsets_of, priors_of
from ensemble_eval.training.augmentation import Augmentation
from ensemble_eval.training.samples import ImageSource, LabelledBatch, Sample, SampleKey
from ensemble_eval.training.seeds import derived_seed, seeded
from ensemble_eval.training.task import Task

# The errors in the log count the objects that none of so many best boxes finds.
FEW_BOXES, MANY_BOXES = 10, 100

# Priors that overlap an object so much stand for it too. In the paper each object has a single prior, and learning
# takes a hundred times as many images.
_MIN_OVERLAP = 0.5
NOTHING = -1


def match(priors: Tensor, objects: Tensor) -> Tensor:
    """Which object each prior stands for.

    Each object has one prior of its own, as long as there are enough priors; pairs of larger overlap are matched
    first. A prior that overlaps objects by half or more stands for the object that it overlaps most.

    Args:
        priors: float [priors, 4].
        objects: float [objects, 4].

    Returns:
        int64 [priors], the index of the object, or `NOTHING` for most priors.
    """
    if not len(objects):
        return torch.full((len(priors),), NOTHING)
    left = box_iou(priors, objects)
    most, which = left.max(dim=1)
    matched = torch.where(most >= _MIN_OVERLAP, which, NOTHING)
    for _ in range(min(len(objects), len(priors))):
        # The first of equal ones, so that the result does not depend on the device.
        prior, each = divmod(int((left == left.max()).flatten().nonzero()[0]), len(objects))
        matched[prior] = each
        left[prior], left[:, each] = -1.0, -1.0
    return matched


def multibox_loss(
    outputs: MultiBoxOutputs, priors: Tensor, objects: list[Tensor], location_weight: float
) -> Tensor:
    """The loss of a batch, a float32 scalar: the loss of confidences plus the weighted loss of locations.

    The first is the logistic loss over all priors. The second is half the squared distance of the offsets over the
    priors that stand for an object. Both are divided by the number of these priors.

    Args:
        outputs: The outputs of the network, on any device.
        priors: float [priors, 4], on the CPU.
        objects: For each image float [objects, 4], as fractions of the image, on the CPU, so that nothing waits
            for a device.
        location_weight: Alpha in the paper.
    """
    matched = torch.stack([match(priors, each) for each in objects])
    is_object = matched != NOTHING
    of_images = zip(objects, matched, is_object, strict=True)
    targets = torch.cat([offsets_of(each[row[found]], priors[found]) for each, row, found in of_images])
    rows, device = is_object.flatten().nonzero()[:, 0], outputs.logits.device
    wanted = is_object.to(outputs.logits.dtype).to(device, non_blocking=True)
    confidence = nn.functional.binary_cross_entropy_with_logits(outputs.logits, wanted, reduction="sum")
    found = outputs.offsets.reshape(-1, 4).index_select(0, rows.to(device, non_blocking=True))
    location = 0.5 * (found - targets.to(device, non_blocking=True)).square().sum()
    return (confidence + location_weight * location) / max(len(rows), 1)


def cluster_shapes(sides: Tensor, clusters: int, seed: int) -> list[tuple[float, float]]:
    """Typical widths and heights of boxes, smallest area first, by k-means over the logarithms of their sides.

    Args:
        sides: float [boxes, 2].
        clusters: The number of clusters, at most the number of different boxes.
        seed: The seed of the first centre; each further centre begins farthest from those before it.
    """
    points = sides.double().log()
    distinct = torch.unique(points, dim=0)
    generator = torch.Generator().manual_seed(seed)
    centres = distinct[torch.randint(len(distinct), (1,), generator=generator)]
    while len(centres) < clusters:
        # Not drawn at random: two centres might then begin in one cluster and never leave it.
        farthest = int(torch.cdist(distinct, centres).min(dim=1).values.argmax())
        centres = torch.cat([centres, distinct[farthest : farthest + 1]])
    for _ in range(100):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        moved = torch.stack(
            [
                points[nearest == index].mean(dim=0) if bool((nearest == index).any()) else centre
                for index, centre in enumerate(centres)
            ]
        )
        if torch.equal(moved, centres):
            break
        centres = moved
    shapes = centres.exp()[centres.sum(dim=1).argsort()]
    return [(float(width), float(height)) for width, height in shapes]


class AnnotatedPictures(ImageSource):
    """Pictures warped to a square, with the boxes of their objects as fractions, float32 [objects, 4].

    Ignored objects are left out. Training pictures are mirrored at random, and their colours are distorted.

    Args:
        pictures: The pictures without boxes.
        objects: The objects of each picture, by its id.
    """

    def __init__(self, pictures: ImageSource, objects: Mapping[str, Objects]) -> None:
        self.items = pictures.items
        self._pictures, self._objects = pictures, objects

    def decode(self, index: int) -> Tensor:
        """The whole picture as uint8 [3, H, W]."""
        return self._pictures.decode(index)

    def training_sample(self, key: SampleKey, augmentation: Augmentation, seed: int) -> Sample:
        """A warped picture, perhaps mirrored, and its boxes."""
        picture, boxes = self._warped(key.image, augmentation.size)
        with seeded(derived_seed("picture", seed, *key)):
            if float(torch.rand(())) < 0.5:
                picture = picture.flip(2)
                boxes = torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], dim=1)
            return Sample(augmentation.distort(picture), boxes)

    def validation_sample(self, index: int, size: int) -> Sample:
        """A warped picture and its boxes."""
        return Sample(*self._warped(index, size))

    def boxes(self, index: int, image: Tensor) -> Tensor:
        """The boxes of a decoded picture's objects."""
        objects = self._objects[self.items[index].id]
        _, height, width = image.shape
        boxes = torch.from_numpy(objects.boxes[~objects.ignored])
        return (boxes / torch.tensor([width, height, width, height])).float().clamp(0, 1)

    def _warped(self, index: int, size: int) -> tuple[Tensor, Tensor]:
        image = self.decode(index)
        return pixels.resize(image, size, size), self.boxes(index, image)


class MultiBoxTask(Task):
    """Everything about a MultiBox's training that does not change while it runs."""

    def new_network(self, *, auxiliary_heads: bool) -> nn.Module:  # noqa: ARG002 (it has none)
        """A network with weights drawn from torch's global generator."""
        return MultiBox(self._shapes, self.plan.width)

    def trunk(self, network: nn.Module) -> nn.Module:
        """The GoogLeNet in a MultiBox."""
        return network.get_submodule("trunk")

    def loss(self, network: nn.Module, batch: LabelledBatch) -> Tensor:
        """`multibox_loss` of one batch."""
        assert self.recipe.multibox is not None
        with self._autocast():
            outputs = network(self.normalised(batch.images))
        objects = [_known(boxes) for boxes in batch.labels]
        return multibox_loss(outputs, self._priors, objects, self.recipe.multibox.location_weight)

    def count_errors(self, network: nn.Module, outputs: Any, labels: Tensor) -> Tensor:
        """The objects of a batch, those that the ten best boxes miss, and those that the hundred best miss.

        They take the places of the images and of the top-1 and top-5 errors.
        """
        assert isinstance(network, MultiBox)
        counts = torch.zeros(3, dtype=torch.long)
        best = best_boxes(network, outputs, MANY_BOXES)
        for (boxes, _), objects in zip(best, map(_known, labels), strict=True):
            found = box_iou(objects, boxes.cpu()) >= _MIN_OVERLAP
            missed = [(~found[:, :most].any(dim=1)).sum() for most in (FEW_BOXES, MANY_BOXES)]
            counts += torch.stack([torch.tensor(len(objects)), *missed])
        return counts

    @cached_property
    def _priors(self) -> Tensor:
        return priors_of(self._shapes)

    @cached_property
    def _shapes(self) -> list[list[tuple[float, float]]]:
        """The shapes of the priors by map; the larger half is for the coarser map."""
        pictures, multibox = self.data.train, self.recipe.multibox
        assert multibox is not None
        assert isinstance(pictures, AnnotatedPictures)
        sides = []
        for index in range(len(pictures.items)):
            with contextlib.suppress(UnreadableImageError):
                boxes = pictures.boxes(index, pictures.decode(index))
                sides.append(boxes[:, 2:] - boxes[:, :2])
        count = multibox.shapes
        if len(all_sides := torch.cat(sides)) < count:
            raise InputError(
                f"the training pictures show {len(all_sides)} objects, too few for {count} shapes of boxes; lower "
                "`shapes` or give more pictures"
            )
        shapes = cluster_shapes(all_sides, count, derived_seed("shapes", self.recipe.network.init_seed))
        return [shapes[: count // 2], shapes[count // 2 :]]


def _known(boxes: Tensor) -> Tensor:
    """The boxes without the rows of NaN that fill the batch."""
    return boxes[~boxes.isnan().any(dim=1)]
