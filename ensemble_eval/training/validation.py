"""Top-1 and top-5 errors of a network on centre crops."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_eval.training.samples import LabelledBatch, Unreadable


@dataclass(frozen=True)
class ValidationErrors:
    """Counts of images: seen, and decided wrongly; and the images that could not be seen."""

    images: int
    top1_wrong: int
    top5_wrong: int
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def top1_error(self) -> float:
        """In percent; NaN where no image was seen."""
        return 100 * self.top1_wrong / self.images if self.images else math.nan

    @property
    def top5_error(self) -> float:
        """In percent; NaN where no image was seen."""
        return 100 * self.top5_wrong / self.images if self.images else math.nan


def validate(logits_of: Callable[[Tensor], Tensor], batches: Iterable[LabelledBatch]) -> ValidationErrors:
    """Count the errors over `batches`.

    Args:
        logits_of: uint8 [B, 3, S, S] -> logits [B, classes].
        batches: labelled images.
    """
    images, wrong = 0, list[Tensor]()
    unreadable: list[Unreadable] = []
    with torch.inference_mode():
        for batch in batches:
            unreadable += batch.unreadable
            if len(batch.labels) == 0:
                continue
            logits = logits_of(batch.images)
            ranks = label_ranks(logits.float(), batch.labels.to(logits.device, non_blocking=True))
            images += len(ranks)
            # Counted where the logits are: reading a count would wait for them.
            wrong.append(torch.stack([(ranks >= 1).sum(), (ranks >= 5).sum()]))
    top1_wrong, top5_wrong = torch.stack(wrong).sum(0).tolist() if wrong else (0, 0)
    return ValidationErrors(images, top1_wrong, top5_wrong, tuple(unreadable))


def together(parts: Sequence[ValidationErrors]) -> ValidationErrors:
    """The errors over all images of several parts, which have no image in common.

    >>> together([ValidationErrors(3, 2, 1), ValidationErrors(1, 0, 0)])
    ValidationErrors(images=4, top1_wrong=2, top5_wrong=1, unreadable=())
    """
    return ValidationErrors(
        sum(part.images for part in parts),
        sum(part.top1_wrong for part in parts),
        sum(part.top5_wrong for part in parts),
        tuple(sorted(image for part in parts for image in part.unreadable)),
    )


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """`metrics.label_rank` for a batch: scores [B, classes] and labels [B] -> ranks [B].

    Classes scored higher stand before the label, and equal ones of a lower index; a row with NaN gets the
    class count, which is never right.
    """
    own = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    ranks = (scores > own).sum(1) + ((scores == own) & lower).sum(1)
    return torch.where(scores.isnan().any(1), scores.shape[1], ranks)
