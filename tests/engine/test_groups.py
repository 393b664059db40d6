"""Members of two protocols in one ensemble: the same results as crops that are cut and run one by one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, encoded, picture
from numpy.typing import NDArray
from stream_stand_ins import StandInStreams
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.scoring.crop_ranks import groups_of
from ensemble_eval.scoring.metrics import label_rank, with_ensemble

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
SIZES = ((101, 67), (64, 64), (60, 90))
LARGE = replace(GOOGLENET, size=299, scales=(320, 352, 384, 416))
# The groups lie between one another.
RULE = CropRule((GOOGLENET, LARGE, GOOGLENET), 10)


def _member(index: int) -> Predict:
    size = RULE.protocols[index].size

    def predict(crops: Tensor) -> Tensor:
        assert crops.shape[1:] == (3, size, size)
        means = crops[:, :, ::37, ::37].flatten(1).double() / 255
        directions = torch.linspace(-1, 1, means.shape[1] * COUNT, dtype=torch.float64).view(-1, COUNT)
        return torch.softmax(means @ (directions * (3 + index)).sin(), dim=1).float()

    return predict


MEMBERS = {name: _member(index) for index, name in enumerate("abc")}


def _images() -> list[ReadyImage]:
    images = []
    for index in range(12):
        size = SIZES[index % len(SIZES)]
        decoded = pixels.decode(encoded(picture(*size, seed=index)))
        images.append(ReadyImage(index, str(index), index % COUNT, pixels.prepare(decoded, RULE.plan(*size))))
    return images


def _one_by_one(image: ReadyImage) -> NDArray[np.float64]:
    """Float64 [crops, members, classes], duplicates included."""
    size, cut = SIZES[image.position % len(SIZES)], image.source.cut
    of_members = [
        [predict(cut(view)[None])[0].double().numpy() for view in protocol.views_of(*size, RULE.crops)]
        for predict, protocol in zip(MEMBERS.values(), RULE.protocols, strict=True)
    ]
    return np.stack(of_members, axis=1)


@pytest.mark.parametrize("queues", [None, StandInStreams(["loading", "computing"])], ids=["cutting", "queued"])
@pytest.mark.parametrize("decides", [(), (1, 5)], ids=["full scores", "until decided"])
@pytest.mark.parametrize("size", [7, 16])
def test_every_member_sees_the_crops_of_its_own_protocol(
    size: int, decides: Sequence[int], queues: StandInStreams | None
) -> None:
    def pooled(image: ReadyImage) -> PooledImage[ImageScores | ImageDecisions]:
        if decides:
            return DecidedImage(image, 3, COUNT, decides)
        return ScoredImage(image, 3, COUNT, groups_of(RULE))

    images = _images()
    engine = Engine(MEMBERS, pooled, CPU, size, groups=RULE.groups, batches_in_flight=2, streams=queues)
    results = {result.id: result for result in engine.run(images)}
    assert len(results) == len(images)
    for image in images:
        result, by_crop = results[image.id], _one_by_one(image)
        if isinstance(result, ImageScores):
            assert result.crop_ranks is not None
            of_five = [label_rank(by_crop[:5, :models].mean(axis=(0, 1)), image.label) for models in (1, 2, 3)]
            assert result.crop_ranks.surface[:, 4].tolist() == of_five
        for scheme in (1, 10):
            expected = by_crop[:scheme].mean(axis=0)
            if isinstance(result, ImageScores):
                assert result.passes == 30
                np.testing.assert_allclose(result.mean_softmax[scheme], expected, rtol=0, atol=1e-6)
            else:
                assert isinstance(result, ImageDecisions)
                assert result.passes <= result.all_passes == 30
                ranks = [label_rank(row, image.label) for row in with_ensemble(expected)]
                for k, decisions in result.top_k[scheme].items():
                    assert list(decisions) == [rank < k for rank in ranks]
