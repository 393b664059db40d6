"""Members of a batch captured as one graph: the results of members that are called one after the other."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, encoded, googlenet_plan, picture, tiny_network
from graph_stand_ins import StandInGraphs
from stream_stand_ins import StandInStreams

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.backends.torch import CapturedForward
from ensemble_eval.crops import pixels
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat

pytestmark = pytest.mark.cuda_checks

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
BGR = InputFormat("bgr", 1.0, (104.0, 117.0, 123.0), (57.0, 57.0, 57.0))
Result = ImageScores | ImageDecisions


@cache
def _images(members: int) -> list[ReadyImage]:
    images = []
    for position, size in enumerate([(101, 67), (64, 64), (60, 90), (80, 70)]):
        image = pixels.decode(encoded(picture(*size, seed=position)))
        source = pixels.prepare(image, googlenet_plan(*size, 10, members))
        images.append(ReadyImage(position, str(position), position, source))
    return images


@cache
def _networks() -> Mapping[str, Predict]:
    """Two that share a preprocessing, and one with another."""
    make = PredictMaker("torch", COUNT, CPU, "float32")
    formats = {"a": InputFormat(), "b": InputFormat(), "c": BGR}
    return {
        name: make(Member(name, arch="googlenet", weights=Path("unused"), input=each), tiny_network(seed=seed))
        for seed, (name, each) in enumerate(formats.items())
    }


def _engine(
    members: Mapping[str, Predict], graphs: StandInGraphs | None, decides: Sequence[int] = ()
) -> Engine[Result]:
    def pooled(image: ReadyImage) -> PooledImage[Result]:
        if decides:
            return DecidedImage(image, len(members), COUNT, decides)
        return ScoredImage(image, len(members), COUNT)

    if graphs is None:
        return Engine(members, pooled, CPU, 8)
    forward = CapturedForward(members, lambda: None, graphs)
    return Engine(
        members, pooled, CPU, 8, batches_in_flight=2, forward=forward, streams=StandInStreams(["loading"])
    )


def _by_id(engine: Engine[Result], members: int = 3) -> dict[str, Result]:
    results = list(engine.run(_images(members)))
    assert len(results) == len(_images(members))
    return {result.id: result for result in results if isinstance(result, ImageScores | ImageDecisions)}


def _assert_same(results: dict[str, Result], expected: dict[str, Result], atol: float = 0) -> None:
    assert results.keys() == expected.keys()
    for key, result in results.items():
        other = expected[key]
        if isinstance(result, ImageScores) and isinstance(other, ImageScores):
            for scheme, means in other.mean_softmax.items():
                np.testing.assert_allclose(result.mean_softmax[scheme], means, rtol=0, atol=atol)
        else:
            assert isinstance(result, ImageDecisions)
            assert isinstance(other, ImageDecisions)
            assert result.top_k == other.top_k


@pytest.fixture(scope="module")
def expected() -> dict[str, Result]:
    return _by_id(_engine(_networks(), None))


def test_replays_give_the_same_bits(expected: dict[str, Result]) -> None:
    graphs = StandInGraphs()
    _assert_same(_by_id(_engine(_networks(), graphs)), expected)
    # 40 crops in batches of eight, in turn at two sets of buffers.
    assert (graphs.captures, graphs.replays) == (2, 5)


def test_until_decided_each_company_of_members_is_captured() -> None:
    graphs = StandInGraphs()
    _assert_same(_by_id(_engine(_networks(), graphs, (5,))), _by_id(_engine(_networks(), None, (5,))))
    assert 2 <= graphs.captures <= 2 * 4


def test_a_function_keeps_those_beside_it_from_being_captured_and_is_named_once() -> None:
    members = {"f": colour_classifier(), **_networks()}
    graphs = StandInGraphs()
    engine = _engine(members, graphs)
    _assert_same(_by_id(engine, 4), _by_id(_engine(members, None), 4))
    assert graphs.captures == 0
    [notice] = engine.new_notices()
    assert notice.endswith("they run kernel by kernel: f")
    assert engine.new_notices() == []


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_capture_that_fails_is_said_once_and_changes_nothing(expected: dict[str, Result], fails_at: int) -> None:
    error = RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with …")
    graphs = StandInGraphs(fails_at, error)
    engine = _engine(_networks(), graphs)
    _assert_same(_by_id(engine), expected)
    assert graphs.captures == fails_at
    [notice] = engine.new_notices()
    assert "(CUDA error: operation not permitted when stream is capturing); they run kernel by kernel" in notice
    assert engine.batch_size == 8


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


@pytest.mark.parametrize("fails_at", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        _caused(
            RuntimeError("CUDA error: operation failed due to a previous error during capture"),
            torch.OutOfMemoryError("CUDA out of memory."),
        ),
    ],
)
def test_out_of_memory_frees_the_graphs_before_the_batch_is_halved(
    expected: dict[str, Result], error: Exception, fails_at: int
) -> None:
    graphs = StandInGraphs(fails_at, error)
    engine = _engine(_networks(), graphs)
    # Another batch size changes last bits.
    _assert_same(_by_id(engine), expected, atol=1e-5)
    assert engine.batch_size == 4
    assert engine.new_notices() == []
    assert graphs.releases == 1
    # Two sets of buffers of the smaller batch, and those before.
    assert graphs.captures == fails_at + 2


def test_one_crop_that_does_not_fit_is_refused() -> None:
    class Full(StandInGraphs):
        def capture(self, work: object) -> object:  # type: ignore[override]  # a stand-in
            del work
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(InputError, match="a batch of 1 does not fit into the memory of cpu"):
        _by_id(_engine(_networks(), Full()))


def test_what_ends_a_run_does_so_before_a_batch_and_not_within_a_capture() -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    graphs = StandInGraphs()
    forward = CapturedForward(_networks(), stop, graphs)
    crops = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    assert forward(crops, (0, 1, 2)).shape == (3, 2, COUNT)
    with pytest.raises(KeyboardInterrupt):
        forward(crops, (0, 1))
    assert (graphs.captures, graphs.replays) == (1, 1)
