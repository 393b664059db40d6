"""Boxes, treated as in R-CNN: warped to the network's input, and suppressed if they overlap a better one.

R. Girshick et al., Rich feature hierarchies for accurate object detection, CVPR 2014. Appendix A: a box is widened
so that its warped region has 16 pixels of context on each side, and warped whatever its shape. Pixels beyond the
image have the mean colour of ImageNet, which is zero after a member has subtracted the mean. Section 2.2: greedy
suppression.
"""

import torch
from torch import Tensor
from torchvision.ops import nms

from ensemble_eval.crops.pixels import resize
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.datasets.boxes import Boxes
from ensemble_eval.members.classes import WNIDS
from ensemble_eval.members.ensemble import Ensemble

CONTEXT_PIXELS = 16
NO_OBJECT = "no object"
"""The last class of region classifiers."""

_MEAN_COLOUR = torch.tensor((124, 116, 104), dtype=torch.uint8)[:, None, None]


def object_classes(ensemble: Ensemble) -> tuple[str, ...]:
    """The classes of objects that the members know, WNIDs for ImageNet's, without a last class "no object"."""
    # Only ImageNet's classes have no names, and ILSVRC's annotations name objects by their WNIDs.
    names = ensemble.classes.names or WNIDS
    return names[:-1] if ends_with_no_object(ensemble) else names


def ends_with_no_object(ensemble: Ensemble) -> bool:
    """Whether the members are region classifiers, whose last class is "no object"."""
    names = ensemble.classes.names
    return names is not None and names[-1] == NO_OBJECT


def warp_regions(image: Tensor, boxes: Boxes, size: int = CROP_SIZE) -> Tensor:
    """Warp boxes of an image to the networks' input size.

    Args:
        image: uint8 [3, height, width].
        boxes: float64 [boxes, 4].
        size: The side of the regions in pixels; their context grows in proportion.

    Returns:
        uint8 [boxes, 3, size, size], resized with antialiasing as crops are.
    """
    regions = torch.empty((len(boxes), 3, size, size), dtype=torch.uint8)
    for region, (left, top, right, bottom) in zip(regions, boxes.tolist(), strict=True):
        (left, right), (top, bottom) = widened(left, right), widened(top, bottom)
        region[:] = resize(_cut(image, left, top, right, bottom), size, size)
    return regions


def _cut(image: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """A part of the image, filled with the mean colour beyond its borders."""
    _, height, width = image.shape
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[:, top:bottom, left:right]
    canvas = _MEAN_COLOUR.repeat(1, bottom - top, right - left)
    inner = image[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    x, y = max(-left, 0), max(-top, 0)
    canvas[:, y : y + inner.shape[1], x : x + inner.shape[2]] = inner
    return canvas


def widened(low: float, high: float) -> tuple[int, int]:
    """Add the context to a box along one axis, in whole pixels, at least one.

    Args:
        low: Left or top edge.
        high: Right or bottom edge.

    Returns:
        The first pixel, and the one after the last.

    Example:
        >>> widened(100, 196)
        (92, 204)
    """
    half = (high - low) / 2 * CROP_SIZE / (CROP_SIZE - 2 * CONTEXT_PIXELS)
    centre = (low + high) / 2
    first = round(centre - half)
    return first, max(round(centre + half), first + 1)


def suppress(boxes: Tensor, scores: Tensor, most_overlap: float) -> Tensor:
    """The indices of the boxes of one class to keep, int64 [kept], the best first.

    A box is left out if it overlaps a kept box by more than `most_overlap`. Boxes of equal scores stay in order.

    Args:
        boxes: float [boxes, 4].
        scores: float [boxes].
        most_overlap: The largest intersection over union.
    """
    order = scores.argsort(descending=True, stable=True)
    # torchvision sorts by score too, but does not say which of two equal ones comes first.
    places = torch.arange(len(order), 0, -1, dtype=boxes.dtype, device=boxes.device)
    return order[nms(boxes[order], places, most_overlap)]
