"""Batches by two streams, in every order that events allow: the results of crops that are cut one by one.

Every order is broken on purpose too, and then the results are others.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, encoded, googlenet_plan, picture
from counted_operations import counted_operations
from stream_stand_ins import StandInEvent, StandInStreams
from torch import Tensor

from ensemble_eval.crops import pixels
from ensemble_eval.crops.gathering import PixelBuffer
from ensemble_eval.engine import runners
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.engine.predict import Forward, OutOfDeviceMemoryError, Predict
from ensemble_eval.engine.runners import StreamRunner

pytestmark = pytest.mark.cuda_checks

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
SIZES = ((101, 67), (64, 64), (60, 91))
LATE = [(), ("loading",), ("computing",), ("loading", "computing")]
Result = ImageScores | ImageDecisions


@cache
def _source(scheme: int, index: int, members: int) -> pixels.CropSource:
    width, height = SIZES[index % len(SIZES)]
    image = pixels.decode(encoded(picture(width, height, seed=index)))
    return pixels.prepare(image, googlenet_plan(width, height, scheme, members))


def _images(scheme: int, count: int, members: int = 2) -> list[ReadyImage]:
    return [
        ReadyImage(index, str(index), index % COUNT, _source(scheme, (index + 1) % 9, members))
        for index in range(count)
    ]


MEMBERS: dict[str, Predict] = {name: colour_classifier(seed) for seed, name in enumerate("ab")}


def _engine(
    streams: StandInStreams | None,
    size: int,
    decides: Sequence[int] = (),
    members: dict[str, Predict] = MEMBERS,
    in_flight: int = 2,
) -> Engine[Result]:
    def pooled(image: ReadyImage) -> PooledImage[Result]:
        if decides:
            return DecidedImage(image, len(members), COUNT, decides)
        return ScoredImage(image, len(members), COUNT)

    return Engine(members, pooled, CPU, size, batches_in_flight=in_flight, streams=streams)


def _assert_same(results: Sequence[object], expected: Sequence[object]) -> None:
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        if isinstance(result, ImageScores) and isinstance(other, ImageScores):
            assert (result.id, result.passes) == (other.id, other.passes)
            for scheme, means in other.mean_softmax.items():
                assert np.array_equal(result.mean_softmax[scheme], means)
        else:
            assert result == other


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("decides", [(), (5,)], ids=["full scores", "until decided"])
@pytest.mark.parametrize(("scheme", "count", "size"), [(1, 30, 8), (10, 6, 16), (144, 1, 32)])
def test_results_do_not_depend_on_when_a_device_does_what_it_is_asked(
    scheme: int, count: int, size: int, decides: tuple[int, ...], late: tuple[str, ...]
) -> None:
    images = _images(scheme, count)
    expected = list(_engine(None, size, decides).run(images))
    _assert_same(list(_engine(StandInStreams(late), size, decides).run(images)), expected)


@pytest.mark.parametrize("first_bytes", [1, 1 << 19])
def test_the_buffer_is_used_again_and_grows(first_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Small(PixelBuffer):
        def __init__(self, device: torch.device) -> None:
            super().__init__(device, first_bytes)
            made.append(self)

    images = _images(10, 24)
    expected = list(_engine(None, 16).run(images))
    monkeypatch.setattr(runners, "PixelBuffer", Small)
    _assert_same(list(_engine(StandInStreams(["loading"]), 16).run(images)), expected)
    [buffer] = made
    assert first_bytes < len(buffer.bytes) < sum(len(image.source.pixels) for image in images) / 2


def test_an_engine_that_was_left_early_runs_again() -> None:
    engine = _engine(StandInStreams(["loading", "computing"]), 8)
    images = _images(10, 12)
    with contextlib.closing(cast("Generator[object]", engine.run(images))) as left:
        next(left)
    _assert_same(list(engine.run(images)), list(_engine(None, 8).run(images)))


def test_new_buffers_wait_for_the_members() -> None:
    """Their memory may be that of tensors in use. Only a device has such memory, so calls are shown."""
    streams, waits = StandInStreams(), list[StandInEvent]()
    streams.loading.wait = waits.append  # type: ignore[assignment]  # a stand-in
    [_] = _engine(streams, 16, in_flight=1).run(_images(1, 1))
    assert [event.stream for event in waits] == [streams.computing]


class _NoWaitBetweenStreams(StandInStreams):
    """What members run is not kept from crops that are not there yet."""

    def __init__(self, late: Sequence[str]) -> None:
        super().__init__(late)
        self.computing.wait = lambda event: None  # type: ignore[method-assign]  # noqa: ARG005 (a stand-in)


class _NoWaitForTheDevice(StandInStreams):
    """Outcomes are read whether they are there or not."""

    def wait_for(self, _event: StandInEvent) -> None:
        """See the class."""


class _RecordsTooEarly(StandInStreams):
    """Events come before the work that they are to tell of."""

    def __init__(self, late: Sequence[str]) -> None:
        super().__init__(late)
        self.loading.record = lambda: StandInEvent(self.loading, 0)  # type: ignore[method-assign]  # a stand-in
        self.computing.record = lambda: StandInEvent(self.computing, 0)  # type: ignore[method-assign]  # a stand-in


class _LoadsOnTheMembersStream(StandInStreams):
    """Pixels are brought by another stream than the one that reads the buffer."""

    def __init__(self, late: Sequence[str]) -> None:
        super().__init__(late)
        load = self.loading.run

        def run(work: Callable[[], None]) -> None:
            (self.computing.run if work.__name__ == "bring" else load)(work)

        self.loading.run = run  # type: ignore[method-assign]  # a stand-in


@pytest.mark.parametrize(
    ("broken", "late"),
    [
        (_NoWaitBetweenStreams, ["loading"]),
        (_NoWaitForTheDevice, ["computing"]),
        (_RecordsTooEarly, ["loading", "computing"]),
        (_LoadsOnTheMembersStream, ["computing"]),
    ],
)
def test_an_order_that_is_broken_shows(broken: Callable[[list[str]], StandInStreams], late: list[str]) -> None:
    images = _images(10, 8)
    expected = list(_engine(None, 16).run(images))
    assert _differs(_engine(broken(late), 16), images, expected)


def _differs(engine: Engine[Result], images: list[ReadyImage], expected: Sequence[object]) -> bool:
    try:
        _assert_same(list(engine.run(images)), expected)
    except (AssertionError, IndexError, RuntimeError):
        return True
    return False


@pytest.mark.parametrize("late", [["loading"], ["computing"], ["loading", "computing"]])
def test_a_buffer_that_is_used_too_early_shows(late: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses and crops, and the memory of its outcome, are those of the batch before."""
    new_buffers, made = StreamRunner._new_buffers, list[Any]()

    def the_first(runner: StreamRunner[Result], batch: Batch[Result]) -> Any:
        if not made:
            made.append(new_buffers(runner, batch))
        return made[0]

    monkeypatch.setattr(StreamRunner, "_new_buffers", the_first)
    images = _images(10, 8)
    expected = list(_engine(None, 16).run(images))
    assert _differs(_engine(StandInStreams(late), 16), images, expected)


class _Releasing(Forward):
    """Gives memory back, which a device that still uses it does not survive."""

    def __init__(self, predicts: Sequence[Predict], streams: StandInStreams) -> None:
        super().__init__(predicts)
        self._streams = streams
        self.releases = 0

    def release(self) -> None:
        assert self._streams.are_known_to_be_idle
        self.releases += 1


def test_a_cpu_releases_what_members_keep_before_a_smaller_batch() -> None:
    sizes, releases = list[int](), list[int]()

    class Releasing(Forward):
        def release(self) -> None:
            releases.append(sizes[-1])

    def failing(crops: Tensor) -> Tensor:
        sizes.append(len(crops))
        if len(crops) == 16:
            raise OutOfDeviceMemoryError("a batch of 16")
        return MEMBERS["a"](crops)

    members = {"a": MEMBERS["a"]}
    engine: Engine[ImageScores] = Engine(
        members, lambda image: ScoredImage(image, 1, COUNT), CPU, 16, forward=Releasing([failing])
    )
    assert len(list(engine.run(_images(10, 2, members=1)))) == 2
    assert releases == [16]


@pytest.mark.parametrize("fails_at", [1, 2, 3, 6])
def test_out_of_memory_frees_everything_once_the_device_is_done_and_changes_no_result(fails_at: int) -> None:
    images, calls = _images(10, 12), 0

    def failing(crops: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        return MEMBERS["b"](crops)

    # Members fail at once, as CUDA's allocator does, whenever the device gets to the work.
    streams = StandInStreams(["loading"])
    forward = _Releasing([MEMBERS["a"], failing], streams)
    engine: Engine[ImageScores] = Engine(
        MEMBERS,
        lambda image: ScoredImage(image, 2, COUNT),
        CPU,
        16,
        batches_in_flight=2,
        forward=forward,
        streams=streams,
    )
    results = sorted(engine.run(images), key=lambda result: result.id)
    expected = sorted(_engine(None, 16).run(images), key=lambda result: result.id)
    assert engine.batch_size == 8
    for result, other in zip(results, expected, strict=True):
        assert isinstance(result, ImageScores)
        assert isinstance(other, ImageScores)
        assert (result.id, result.passes) == (other.id, other.passes)
        for scheme, means in other.mean_softmax.items():
            np.testing.assert_allclose(result.mean_softmax[scheme], means, rtol=0, atol=1e-7)
    assert forward.releases == 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [1, 10, 144])
def test_a_batch_takes_a_fixed_number_of_operations_beside_its_members(scheme: int) -> None:
    outcome = torch.full((288, COUNT), 1 / COUNT)
    runner: StreamRunner[ImageScores] = StreamRunner(Forward([lambda _crops: outcome]), CPU, StandInStreams())
    sources = [_source(scheme, index % 9, members=1) for index in range(288)]
    for launches in range(2):
        batch: Batch[ImageScores] = Batch(288, [0])
        admitted = []
        for position, source in enumerate(sources):
            with counted_operations() as operations:
                image = runner.admit(ReadyImage(position, str(position), 0, source))
            if launches:
                # A slice and a copy, and an empty tensor instead of its pixels.
                assert len(operations) == 3, operations
            admitted.append(image)
            batch.take_from(ScoredImage(image, 1, COUNT), 288)
            if batch.is_full:
                break
        assert len(batch.passes) == 288
        with counted_operations() as operations:
            outcome_of_batch = runner.launch(batch)
        with outcome_of_batch:
            pass
        for image in admitted:
            runner.remove(image)
        if launches:
            # Addresses to the device, thirteen to gather, the outcome and its copy; views included.
            assert len(operations) <= 20, operations
            assert sum(not _is_view(operation) for operation in operations) <= 12, operations


def _is_view(operation: str) -> bool:
    return any(name in operation for name in ("view", "unfold", "unsqueeze", "unbind", "slice", "detach", "alias"))
