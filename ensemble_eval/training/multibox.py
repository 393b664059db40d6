"""What a MultiBox learns: which priors stand for an object, and where that is (Erhan et al., CVPR 2014)."""

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from ensemble_eval.models.multibox import MultiBoxOutputs, offsets_of

# Priors that overlap an object so much stand for it too. In the paper each object has one box alone, which takes a
# hundred times the images.
_LEAST_OVERLAP = 0.5
NOTHING = -1


def match(priors: Tensor, objects: Tensor) -> Tensor:
    """Which object each prior stands for.

    Pairs of most overlap come first, and each object has a prior of its own, where there are as many priors.
    Priors that overlap an object by half or more stand for the one that they overlap most.

    Args:
        priors: float [priors, 4].
        objects: float [objects, 4].

    Returns:
        int64 [priors]: the object's index; `NOTHING` for most.
    """
    matched = torch.full((len(priors),), NOTHING)
    if not len(objects):
        return matched
    overlaps = box_iou(priors, objects)
    most, which = overlaps.max(dim=1)
    near = most >= _LEAST_OVERLAP
    matched[near] = which[near]
    left = overlaps.clone()
    for _ in range(min(len(objects), len(priors))):
        # The first of equal ones, so that the outcome does not depend on the device.
        prior, each = divmod(int((left == left.max()).flatten().nonzero()[0]), len(objects))
        matched[prior] = each
        left[prior], left[:, each] = -1.0, -1.0
    return matched


def multibox_loss(
    outputs: MultiBoxOutputs, priors: Tensor, objects: list[Tensor], location_weight: float
) -> Tensor:
    """The loss of a batch, a float32 scalar: of confidences, plus of locations with a weight.

    The confidences' is the logistic loss over all priors, the locations' half the squared distance of the offsets
    over the priors that stand for an object; both are divided by the number of these.

    Args:
        outputs: of the network, on any device.
        priors: float [priors, 4], on the CPU.
        objects: for each image float [objects, 4], as fractions of the image, on the CPU: so nothing waits for a
            device.
        location_weight: alpha in the paper.
    """
    matched = torch.stack([match(priors, each) for each in objects])
    is_object = matched != NOTHING
    targets = torch.cat(
        [
            offsets_of(each[row[row != NOTHING]], priors[row != NOTHING])
            for each, row in zip(objects, matched, strict=True)
        ]
    )
    rows, device = is_object.flatten().nonzero()[:, 0], outputs.logits.device
    wanted = is_object.to(outputs.logits.dtype).to(device, non_blocking=True)
    confidence = nn.functional.binary_cross_entropy_with_logits(outputs.logits, wanted, reduction="sum")
    found = outputs.offsets.reshape(-1, 4).index_select(0, rows.to(device, non_blocking=True))
    location = 0.5 * (found - targets.to(device, non_blocking=True)).square().sum()
    return (confidence + location_weight * location) / max(len(rows), 1)


def cluster_shapes(sides: Tensor, clusters: int, seed: int) -> list[tuple[float, float]]:
    """Widths and heights that many boxes have, smallest area first: k-means over the logarithms of their sides.

    Args:
        sides: float [boxes, 2].
        clusters: how many; at most the number of different boxes.
        seed: of the first centre; each further one begins farthest from those before it.
    """
    points = sides.double().log()
    distinct = torch.unique(points, dim=0)
    generator = torch.Generator().manual_seed(seed)
    centres = distinct[torch.randint(len(distinct), (1,), generator=generator)]
    while len(centres) < clusters:
        # The one farthest from all others: drawn at random, two may begin in one cluster and never leave it.
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
