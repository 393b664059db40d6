import dataclasses
import math

import pytest
import torch
from builders import encoded, picture
from tiny_training import bare_task, tiny_recipe
from torch import Tensor, nn

from ensemble_eval.datasets.items import BytesItem
from ensemble_eval.scoring.metrics import label_rank
from ensemble_eval.training.samples import ImageFiles, Unreadable
from ensemble_eval.training.task import label_ranks


def test_ranks_are_the_evaluations_ties_and_nan_included() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (200, 9), generator=generator).float()
    scores[::17, 3] = math.nan
    labels = torch.randint(0, 9, (200,), generator=generator)
    expected = [label_rank(row.numpy(), int(label)) for row, label in zip(scores, labels, strict=True)]
    assert label_ranks(scores, labels).tolist() == expected


class _OwnScores(nn.Module):
    """Scores every image alike: class order by descending score is 6, 5, 4, 3, 2, 1, 0."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.arange(7.0).expand(len(images), 7)


def test_errors_count_every_image_once_and_name_the_unreadable() -> None:
    readable = [BytesItem(f"{label}.png", label, encoded(picture(40, 40))) for label in (6, 5, 2, 1, 0)]
    val = ImageFiles([*readable[:2], BytesItem("x.png", 3, b"damaged"), *readable[2:]])
    task = bare_task(tiny_recipe(), num_classes=7)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, val=val))
    errors = task.judge(_OwnScores())
    assert (errors.images, errors.top1_wrong, errors.top5_wrong) == (5, 4, 2)
    assert errors.percent == pytest.approx((80, 40))
    assert errors.unreadable == (Unreadable("x.png", "not an image of a known format"),)


def test_no_image_at_all_has_no_error() -> None:
    errors = bare_task(tiny_recipe()).judge(_OwnScores())
    assert errors.images == 0
    assert all(map(math.isnan, errors.percent))
