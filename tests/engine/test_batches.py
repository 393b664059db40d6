from collections import Counter

import pytest
import torch
from builders import googlenet_plan

from ensemble_eval.crops.pixels import CropSource, prepare
from ensemble_eval.engine.batches import Batch, batches_needed
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage

CPU = torch.device("cpu")
Pooled = PooledImage[ImageScores]


def _pooled(position: int, scheme: int = 144) -> Pooled:
    source = CropSource(googlenet_plan(400, 300, scheme), torch.empty(0, dtype=torch.uint8), {})
    return ScoredImage(ReadyImage(position, str(position), 0, source), members=1, num_classes=2)


def _batch(size: int) -> Batch[ImageScores]:
    return Batch(size, [0])


def _left(pooled: Pooled) -> int:
    return len(pooled.open.of([0]))


@pytest.mark.parametrize(("size", "slots"), [(16, 16), (48, 16), (288, 16), (8, 8), (12, 4), (7, 1)])
@pytest.mark.parametrize("scheme", [1, 10, 144])
def test_a_crops_slot_does_not_depend_on_who_shares_the_batch(size: int, slots: int, scheme: int) -> None:
    positions = [3, 4, 17]
    alone: dict[tuple[int, int], int] = {}
    for position in positions:
        image = _pooled(position, scheme)
        while _left(image):
            batch = _batch(size)
            batch.take_from(image, size)
            alone |= {(position, view): row % slots for row, (_, view) in batch.passes.items()}
    images = [_pooled(position, scheme) for position in reversed(positions)]
    together: dict[tuple[int, int], int] = {}
    while any(_left(image) for image in images):
        batch = _batch(size)
        for image in images:
            batch.take_from(image, 3)
        together |= {(image.image.position, view): row % slots for row, (image, view) in batch.passes.items()}
    assert together == alone
    assert len(alone) == len(positions) * scheme


def test_an_image_fills_batches_without_a_gap() -> None:
    image = _pooled(5)
    for _ in range(144 // 48):
        batch = _batch(48)
        batch.take_from(image, 48)
        assert batch.is_full
        assert sorted(batch.passes) == list(range(48))
    assert _left(image) == 0


def test_consecutive_images_of_ten_crops_fill_lanes_evenly() -> None:
    batches = [_batch(16) for _ in range(5)]
    images = [_pooled(position, 10) for position in range(8)]
    for batch in batches:
        for image in images:
            batch.take_from(image, 16)
    assert [len(batch.passes) for batch in batches] == [16] * 5


@pytest.mark.parametrize("scheme", [1, 144])
def test_one_crop_of_each_of_consecutive_images_fills_a_batch(scheme: int) -> None:
    batch = _batch(16)
    for position in range(5, 21):
        batch.take_from(_pooled(position, scheme), 1)
    assert batch.is_full


def test_what_a_batch_gives_back_is_taken_again_in_crop_order() -> None:
    image, other = _pooled(0), _pooled(1)
    batch = _batch(16)
    batch.take_from(image, 10)
    batch.take_from(other, 16)
    assert Counter(pooled.image.id for pooled, _ in batch.passes.values()) == {"0": 10, "1": 6}
    batch.give_back()
    assert not batch.passes
    assert image.open.of([0]) == other.open.of([0]) == list(range(144))
    assert image.open.passes == other.open.passes == 0


@pytest.mark.parametrize("size", [7, 16, 48, 100, 288])
@pytest.mark.parametrize(
    ("images", "scheme"), [(1, 1), (6, 1), (100, 1), (1, 10), (6, 10), (50, 10), (1, 144), (3, 144)]
)
def test_as_many_batches_are_needed_as_the_engine_runs(images: int, scheme: int, size: int) -> None:
    batches = 0

    def predict(crops: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += 1
        return torch.full((len(crops), 2), 0.5)

    source = prepare(torch.zeros(3, 30, 40, dtype=torch.uint8), googlenet_plan(40, 30, scheme))
    ready = [ReadyImage(position, str(position), 0, source) for position in range(images)]
    engine = Engine({"a": predict}, lambda image: ScoredImage(image, 1, 2), CPU, size)
    assert len(list(engine.run(ready))) == images
    assert batches == batches_needed(images, scheme, size)


def test_the_crops_of_a_whole_validation_set_are_counted_at_once() -> None:
    # By hand: 50,000 images of 144 crops fill batches of 288 without a row left over.
    assert batches_needed(50_000, 144, 288) == 25_000
