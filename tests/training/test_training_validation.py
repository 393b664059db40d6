import math

import pytest
import torch
from torch import Tensor

from ensemble_eval.scoring.metrics import label_rank
from ensemble_eval.training.samples import LabelledBatch, Unreadable
from ensemble_eval.training.validation import label_ranks, validate


def test_ranks_are_the_evaluations_ties_and_nan_included() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (200, 9), generator=generator).float()
    scores[::17, 3] = math.nan
    labels = torch.randint(0, 9, (200,), generator=generator)
    expected = [label_rank(row.numpy(), int(label)) for row, label in zip(scores, labels, strict=True)]
    assert label_ranks(scores, labels).tolist() == expected


def test_errors_count_every_image_once_and_name_the_unreadable() -> None:
    # The "image" is its own scores: class order by descending score is 6, 5, 4, 3, 2, 1, 0.
    def logits_of(images: Tensor) -> Tensor:
        return torch.arange(7.0).expand(len(images), 7)

    def batch(labels: list[int]) -> LabelledBatch:
        return LabelledBatch(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), torch.tensor(labels), [])

    lost = LabelledBatch(
        torch.empty(0, 3, 0, 0), torch.empty(0, dtype=torch.long), [Unreadable("x.png", "damaged")]
    )
    errors = validate(logits_of, [batch([6, 5, 2]), lost, batch([1, 0])])
    assert (errors.images, errors.top1_wrong, errors.top5_wrong) == (5, 4, 2)
    assert errors.top1_error == pytest.approx(80)
    assert errors.top5_error == pytest.approx(40)
    assert errors.unreadable == (Unreadable("x.png", "damaged"),)


def test_no_image_at_all_has_no_error() -> None:
    errors = validate(lambda images: images, [])
    assert math.isnan(errors.top1_error)
    assert math.isnan(errors.top5_error)
