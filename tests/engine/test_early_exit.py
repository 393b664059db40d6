"""A run that stops when decided against the run of full scores: the same decisions from fewer passes."""

import gc
import itertools
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, encoded, googlenet_plan, picture
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict
from ensemble_eval.scoring.metrics import label_rank, with_ensemble

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
SIZES = ((101, 67), (64, 64), (60, 90))
MEMBERS: dict[str, Predict] = {name: colour_classifier(seed) for seed, name in enumerate("abc")}


@cache
def _images(scheme: int, members: int = len(MEMBERS)) -> list[ReadyImage]:
    images = []
    for position, (width, height) in enumerate(SIZES):
        image = pixels.decode(encoded(picture(width, height, seed=position)))
        source = pixels.prepare(image, googlenet_plan(width, height, scheme, members))
        # Every label is as likely to be among the best as not. With 144 crops, each size has some of them.
        images += [
            ReadyImage(position * COUNT + label, f"{position}/{label}", label, source)
            for label in range(COUNT)
            if scheme < 144 or label % len(SIZES) == position
        ]
    return images


def _engine(
    members: Mapping[str, Predict], batch_size: int, decides: Sequence[int], batches_in_flight: int | None = None
) -> Engine[ImageScores | ImageDecisions]:
    def pooled(image: ReadyImage) -> PooledImage[ImageScores | ImageDecisions]:
        if decides:
            return DecidedImage(image, len(members), COUNT, decides)
        return ScoredImage(image, len(members), COUNT)

    return Engine(members, pooled, CPU, batch_size, batches_in_flight=batches_in_flight)


def _decided(
    images: Sequence[ReadyImage], batch_size: int, decides: Sequence[int], members: dict[str, Predict] = MEMBERS
) -> dict[str, ImageDecisions]:
    results = list(_engine(members, batch_size, decides).run(images))
    assert all(isinstance(result, ImageDecisions) for result in results)
    assert len({result.id for result in results}) == len(results) == len(images)
    return {result.id: result for result in results if isinstance(result, ImageDecisions)}


@cache
def _alone(scheme: int) -> dict[str, ImageDecisions]:
    """What becomes of the images batch by batch, with nothing in the way."""
    return _decided(_images(scheme), 16, (5,))


@pytest.fixture(scope="module", params=[10, 144])
def full(request: pytest.FixtureRequest) -> dict[str, ImageScores]:
    results = _engine(MEMBERS, 16, ()).run(_images(request.param))
    return {result.id: result for result in results if isinstance(result, ImageScores)}


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "decides"), [(16, (5,)), (16, (5, 1)), (7, (5, 1))])
def test_decisions_are_those_of_the_full_run(
    full: dict[str, ImageScores], batch_size: int, decides: tuple[int, ...]
) -> None:
    scheme = max(next(iter(full.values())).mean_softmax)
    usual = (batch_size, decides) == (16, (5,))
    results = _alone(scheme) if usual else _decided(_images(scheme), batch_size, decides)
    assert set(results) == set(full)
    for result in results.values():
        assert set(result.top_k) == set(full[result.id].mean_softmax)
        for crops, by_k in result.top_k.items():
            scores = with_ensemble(full[result.id].mean_softmax[crops])
            ranks = [label_rank(row, result.label) for row in scores]
            assert set(by_k) == {*decides, 1} if crops == 1 else set(by_k) == set(decides)
            for k, decisions in by_k.items():
                assert list(decisions) == [rank < k for rank in ranks]


@pytest.mark.slow
def test_decisions_are_the_same_with_a_batch_in_flight(full: dict[str, ImageScores]) -> None:
    """As on a GPU: images are decided while crops of theirs are under way."""
    scheme = max(next(iter(full.values())).mean_softmax)
    engine = _engine(MEMBERS, 16, (5,), 2)
    results = {result.id: result for result in engine.run(_images(scheme))}
    expected = _alone(scheme)
    assert set(results) == set(expected)
    for key, result in results.items():
        assert isinstance(result, ImageDecisions)
        assert result.top_k == expected[key].top_k


@pytest.mark.slow
def test_passes_are_saved_and_counted() -> None:
    images = _images(144, members=1)
    asked = 0

    def counting(crops: Tensor) -> Tensor:
        nonlocal asked
        asked += int((crops.flatten(1).amax(dim=1) > 0).sum())
        return colour_classifier(0)(crops)

    results = _decided(images, 16, (5,), {"a": counting})
    assert sum(result.passes for result in results.values()) == asked
    full = sum(len(image.source.plan.views) for image in images)
    assert sum(result.all_passes for result in results.values()) == full
    # Few classes decide late.
    assert asked < 0.9 * full


def test_an_image_that_stays_undecided_is_run_whole_and_ranked_as_ever() -> None:
    def uniform(crops: Tensor) -> Tensor:
        return torch.full((len(crops), COUNT), 1 / COUNT)

    # No two crops of the first size coincide.
    images = [image for image in _images(144, members=2) if image.id.startswith("0/")]
    results = _decided(images, 16, (5,), {"a": uniform, "b": uniform})
    assert len(results) == len(images) > 1
    for result in results.values():
        assert result.passes == result.all_passes == 2 * 144
        # Ties go to the lower index.
        assert result.top_k[144][5] == [result.label < 5] * 3


@pytest.mark.slow
def test_running_out_of_memory_changes_no_decision() -> None:
    calls = itertools.count()

    def failing(crops: Tensor) -> Tensor:
        if next(calls) == 3:
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        return colour_classifier(1)(crops)

    expected = _decided(_images(144, members=1), 16, (5,), {"a": colour_classifier(1)})
    results = _decided(_images(144, members=1), 16, (5,), {"a": failing})
    assert {key: result.top_k for key, result in results.items()} == {
        key: result.top_k for key, result in expected.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 2])
def test_running_out_of_memory_in_a_member_that_goes_on_alone_changes_no_decision(in_flight: int) -> None:
    seen: list[Tensor] = []
    passes, failures = 0, 0

    def counted(name: str, crops: Tensor) -> Tensor:
        nonlocal passes
        passes += int((crops.flatten(1).amax(dim=1) > 0).sum())
        return MEMBERS[name](crops)

    def first(crops: Tensor) -> Tensor:
        seen[:] = [crops]
        return counted("a", crops)

    def last(crops: Tensor) -> Tensor:
        nonlocal failures
        # A batch for all is the one that the first member has just had.
        if crops is not seen[0] and not failures:
            failures += 1
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        return counted("c", crops)

    members = {"a": first, "b": lambda crops: counted("b", crops), "c": last}
    engine = _engine(members, 16, (5,), in_flight)
    results = {result.id: result for result in engine.run(_images(144)) if isinstance(result, ImageDecisions)}
    assert (failures, engine.batch_size) == (1, 8)
    expected = _alone(144)
    assert {key: result.top_k for key, result in results.items()} == {
        key: result.top_k for key, result in expected.items()
    }
    assert sum(result.passes for result in results.values()) == passes


def test_a_member_goes_on_alone_once_the_ensemble_is_decided() -> None:
    """Two are certain of the label at once, the third never is: it alone runs all."""
    seen = dict.fromkeys("abc", 0)

    def certain(name: str) -> Predict:
        def predict(crops: Tensor) -> Tensor:
            seen[name] += int((crops.flatten(1).amax(dim=1) > 0).sum())
            return torch.eye(COUNT)[[COUNT - 1]].repeat(len(crops), 1)

        return predict

    def uniform(crops: Tensor) -> Tensor:
        seen["c"] += int((crops.flatten(1).amax(dim=1) > 0).sum())
        return torch.full((len(crops), COUNT), 1 / COUNT)

    images = [image for image in _images(144) if image.label == COUNT - 1]
    results = _decided(images, 16, (1,), {"a": certain("a"), "b": certain("b"), "c": uniform})
    views = sum(len(image.source.plan.views) for image in images)
    assert seen["c"] == views
    # Of the 3 × 144 votes the label then has 2n, and its rivals can get 3(144 - n): certain from n = 87 on.
    assert seen["a"] == seen["b"] < 0.85 * views
    for result in results.values():
        assert result.top_k[144][1] == [True, True, False, True]
    assert sum(result.passes for result in results.values()) == sum(seen.values())


def _images_with_state() -> list[object]:
    return [one for one in gc.get_objects() if type(one) in (ScoredImage, DecidedImage)]


@pytest.mark.slow
@pytest.mark.parametrize("decides", [(), (5,)], ids=["full scores", "until decided"])
def test_an_images_memory_is_free_once_its_record_is_there(decides: tuple[int, ...]) -> None:
    """Without the garbage collector, which comes too late for gigabytes."""
    images = _images(10)
    gc.collect()
    of_other_tests = _images_with_state()
    known = {id(one) for one in of_other_tests}
    gc.disable()
    try:
        assert len(list(_engine(MEMBERS, 16, decides).run(images))) == len(images)
        assert not [one for one in _images_with_state() if id(one) not in known]
    finally:
        gc.enable()


def test_with_ensemble_adds_the_mean_of_several_members_only() -> None:
    scores = np.array([[0.5, 0.5], [0.0, 1.0]])
    assert with_ensemble(scores).tolist() == [[0.5, 0.5], [0.0, 1.0], [0.25, 0.75]]
    assert with_ensemble(scores[:1]).tolist() == [[0.5, 0.5]]
