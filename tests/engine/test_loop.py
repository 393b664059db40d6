import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CLASS_NAMES, colour_classifier, encoded, googlenet_plan, picture, tiny_network
from numpy.typing import NDArray
from torch import Tensor, nn

from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.backends.torch import torch_logits
from ensemble_eval.crops import pixels
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.engine.early_exit import DecidedImage, ImageDecisions
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import PooledImage, ReadyImage, UnreadableImage
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict
from ensemble_eval.errors import InputError, NonFiniteScoresError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.scoring.metrics import label_rank, with_ensemble
from ensemble_eval.settings import Backend, Precision

CPU = torch.device("cpu")
COUNT = len(CLASS_NAMES)
SIZES = {"landscape": (101, 67), "square": (64, 64), "portrait": (60, 90)}
# Two architectures, two widths and two ways of preprocessing in one ensemble.
NETWORKS = {
    "a": ("googlenet", 0.05, InputFormat()),
    "b": ("googlenet-paper", 0.1, InputFormat("bgr", 1.0, (104.0, 117.0, 123.0), (57.0, 57.0, 57.0))),
}


def _ready(name: str, scheme: int, members: int = 2) -> ReadyImage:
    width, height = SIZES[name]
    source = pixels.prepare(
        pixels.decode(encoded(picture(width, height))), googlenet_plan(width, height, scheme, members)
    )
    return ReadyImage(list(SIZES).index(name), name, 3, source)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {name: tiny_network(arch, width=width) for name, (arch, width, _) in NETWORKS.items()}


def _members(networks: dict[str, nn.Module], precision: Precision = "float32") -> dict[str, Predict]:
    preprocess = {name: SharedPreprocessing(NETWORKS[name][2], CPU) for name in networks}
    return {
        name: NetworkPredict(name, preprocess[name], COUNT, torch_logits(network, CPU, precision))
        for name, network in networks.items()
    }


def _engine(
    members: Mapping[str, Predict],
    batch_size: int,
    device: torch.device = CPU,
    batches_in_flight: int | None = None,
) -> Engine[ImageScores]:
    def pooled(image: ReadyImage) -> ScoredImage:
        return ScoredImage(image, len(members), COUNT)

    return Engine(members, pooled, device, batch_size, batches_in_flight=batches_in_flight)


def _evaluated(
    members: dict[str, Predict], images: Sequence[ReadyImage], batch_size: int, device: torch.device = CPU
) -> list[ImageScores]:
    results = list(_engine(members, batch_size, device).run(images))
    assert all(isinstance(result, ImageScores) for result in results)
    return [result for result in results if isinstance(result, ImageScores)]


def _slow_mean(
    network: nn.Module, input_format: InputFormat, image: ReadyImage, scheme: int
) -> NDArray[np.float64]:
    """The obvious loop: every crop by itself, duplicates included, then the mean of the list."""
    mean, std = torch.tensor(input_format.mean), torch.tensor(input_format.std)
    outputs = []
    for view in GOOGLENET.views_of(*SIZES[image.id])[:scheme]:
        crop = image.source.cut(view).permute(1, 2, 0).float()
        if input_format.channels == "bgr":
            crop = crop[..., [2, 1, 0]]
        normalised = ((crop / input_format.scale - mean) / std).permute(2, 0, 1)[None]
        with torch.inference_mode():
            outputs.append(torch.softmax(network(normalised), dim=1)[0].double().numpy())
    mean_softmax: NDArray[np.float64] = np.mean(outputs, axis=0)
    return mean_softmax


@pytest.mark.slow
@pytest.mark.parametrize("name", ["landscape", "square"])
def test_144_crops_agree_with_the_slow_loop(networks: dict[str, nn.Module], name: str) -> None:
    image = _ready(name, 144)
    [result] = _evaluated(_members(networks), [image], 16)
    assert set(result.mean_softmax) == {1, 10, 144}
    for index, (member, network) in enumerate(networks.items()):
        expected = _slow_mean(network, NETWORKS[member][2], image, 144)
        np.testing.assert_allclose(result.mean_softmax[144][index], expected, rtol=0, atol=1e-5)
    assert (result.id, result.label) == (name, 3)


@pytest.fixture(scope="module")
def slow_means(networks: dict[str, nn.Module]) -> dict[tuple[str, int], NDArray[np.float64]]:
    return {
        (name, scheme): np.stack(
            [_slow_mean(network, NETWORKS[key][2], _ready(name, 10), scheme) for key, network in networks.items()]
        )
        for name in SIZES
        for scheme in (1, 10)
    }


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, 16, 50])
def test_any_batch_size_agrees_with_the_slow_loop(
    networks: dict[str, nn.Module], slow_means: dict[tuple[str, int], NDArray[np.float64]], batch_size: int
) -> None:
    for result in _evaluated(_members(networks), [_ready(name, 10) for name in SIZES], batch_size):
        for scheme in (1, 10):
            expected = slow_means[result.id, scheme]
            np.testing.assert_allclose(result.mean_softmax[scheme], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch_size", [4, 16, 48])
def test_scores_do_not_depend_on_neighbours_or_order_by_a_single_bit(
    networks: dict[str, nn.Module], precision: Precision, batch_size: int
) -> None:
    members = _members(networks, precision)
    images = [_ready(name, 10) for name in SIZES]
    together = {result.id: result for result in _evaluated(members, images, batch_size)}
    others = [
        _evaluated(members, images[::-1], batch_size),
        *(_evaluated(members, [i], batch_size) for i in images),
    ]
    for result in itertools.chain.from_iterable(others):
        for scheme in (1, 10):
            assert np.array_equal(result.mean_softmax[scheme], together[result.id].mean_softmax[scheme])


@pytest.mark.slow
def test_smaller_schemes_are_prefixes_of_the_144(networks: dict[str, nn.Module]) -> None:
    members = _members(networks)
    [full], [ten], [one] = (_evaluated(members, [_ready("landscape", scheme)], 16) for scheme in (144, 10, 1))
    assert np.array_equal(full.mean_softmax[10], ten.mean_softmax[10])
    assert np.array_equal(full.mean_softmax[1], one.mean_softmax[1])
    assert set(one.mean_softmax) == {1}
    assert [result.passes for result in (full, ten, one)] == [288, 20, 2]


def test_a_square_image_costs_48_passes_a_member() -> None:
    [result] = _evaluated({"a": colour_classifier(1), "b": colour_classifier(2)}, [_ready("square", 144)], 16)
    assert result.passes == 2 * 48


class _Recorder:
    """A fast member that remembers its batches and fails as it is told."""

    def __init__(self, *, fits: int = 10**9, fails_at_call: int | None = None) -> None:
        self.batches: list[int] = []
        self._fits, self._fails_at_call = fits, fails_at_call
        self._predict = colour_classifier(1)

    def __call__(self, crops: Tensor) -> Tensor:
        assert crops.dtype == torch.uint8
        assert crops.shape[1:] == (3, 224, 224)
        self.batches.append(len(crops))
        if len(crops) > self._fits or len(self.batches) == self._fails_at_call:
            raise OutOfDeviceMemoryError(f"a batch of {len(crops)}")
        return self._predict(crops)


IMAGES = [_ready(name, 10, members=1) for name in SIZES]
IMAGES_FOR_TWO = [_ready(name, 10, members=2) for name in SIZES]


def test_every_batch_has_the_same_shape_and_only_the_last_is_padded() -> None:
    recorder = _Recorder()
    _evaluated({"a": recorder}, IMAGES, 8)
    assert recorder.batches == [8, 8, 8, 8]  # 30 crops


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    recorder = _Recorder(fits=4)
    engine = _engine({"a": recorder}, 16)
    results = list(engine.run(IMAGES))
    assert recorder.batches == [16, 8, *[4] * 8]
    assert engine.batch_size == 4
    _assert_same(results, _evaluated({"a": colour_classifier(1)}, IMAGES, 16))


def test_running_out_of_memory_with_a_batch_in_flight_loses_nothing() -> None:
    recorder = _Recorder(fails_at_call=2)
    engine = _engine({"a": recorder}, 8, batches_in_flight=2)
    results = sorted(engine.run(IMAGES), key=lambda result: result.id)
    expected = sorted(_evaluated({"a": colour_classifier(1)}, IMAGES, 8), key=lambda result: result.id)
    assert recorder.batches == [8, 8, *[4] * 6]
    _assert_same(results, expected)


def test_running_out_of_memory_later_repeats_one_batch_and_does_not_start_over() -> None:
    first, second = _Recorder(), _Recorder(fails_at_call=2)
    results = list(_engine({"a": first, "b": second}, 8).run(IMAGES_FOR_TWO))
    # 8 crops done, 22 left: the second batch fails in the second member and is done again with 4.
    assert first.batches == second.batches == [8, 8, *[4] * 6]
    _assert_same(results, _evaluated({"a": colour_classifier(1), "b": colour_classifier(1)}, IMAGES_FOR_TWO, 8))


def _assert_same(results: Sequence[object], expected: list[ImageScores]) -> None:
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        assert isinstance(result, ImageScores)
        assert (result.id, result.passes) == (other.id, other.passes)
        for scheme, means in other.mean_softmax.items():
            np.testing.assert_allclose(result.mean_softmax[scheme], means, rtol=0, atol=1e-7)


def test_one_crop_that_does_not_fit_ends_the_run() -> None:
    with pytest.raises(InputError, match=r"a batch of 1 does not fit into the memory of cpu; use fewer models"):
        list(_engine({"a": _Recorder(fits=0)}, 4).run(IMAGES))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_member_that_yields_nan_is_named_with_the_image(value: float) -> None:
    def broken(crops: Tensor) -> Tensor:
        scores = colour_classifier(2)(crops)
        scores[-1, 0] = value
        return scores

    images = [_ready("landscape", 1), _ready("square", 1)]
    with pytest.raises(NonFiniteScoresError, match="member b yields NaN or infinity for square"):
        list(_engine({"a": colour_classifier(1), "b": broken}, 2).run(images))


def test_what_a_member_says_of_padding_is_of_no_interest() -> None:
    def dislikes_black(crops: Tensor) -> Tensor:
        scores = colour_classifier(1)(crops)
        scores[crops.flatten(1).sum(dim=1) == 0] = float("nan")
        return scores

    assert len(_evaluated({"a": dislikes_black}, IMAGES, 16)) == 3


def test_every_image_comes_out_once_and_unreadable_ones_as_they_come() -> None:
    gone = [UnreadableImage(name, "damaged") for name in "xyz"]
    images: list[ReadyImage | UnreadableImage] = [gone[0], IMAGES[0], gone[1], IMAGES[1], IMAGES[2], gone[2]]
    for batch_size in (1, 7, 50):
        results = list(_engine({"a": colour_classifier()}, batch_size).run(images))
        assert sorted(result.id for result in results) == ["landscape", "portrait", "square", "x", "y", "z"]
        assert [result for result in results if isinstance(result, UnreadableImage)] == gone


def test_no_images_give_no_results() -> None:
    assert list(_engine({"a": colour_classifier()}, 4).run([])) == []


def _counted(
    images: Iterator[ReadyImage | UnreadableImage], taken: list[str]
) -> Iterator[ReadyImage | UnreadableImage]:
    for image in images:
        taken.append(image.id)
        yield image


def test_unreadable_images_do_not_wait_for_the_next_batch() -> None:
    taken: list[str] = []
    unreadable = (UnreadableImage(str(index), "damaged") for index in range(1000))
    results = _engine({"a": colour_classifier()}, 16).run(_counted(unreadable, taken))
    assert next(results).id == "0"
    assert len(taken) < 100


def test_no_more_images_are_held_than_a_batch_needs() -> None:
    taken: list[str] = []
    images = (dataclasses.replace(IMAGES[0], position=position) for position in range(50))
    results = _engine({"a": colour_classifier()}, 16).run(_counted(images, taken))
    next(results)
    assert len(taken) <= 4


class _CountedImage(PooledImage[int]):
    """A third kind of image: how many rows members returned, once it is more than half of all."""

    def __init__(self, image: ReadyImage, members: int) -> None:
        super().__init__(image)
        self._rows: set[tuple[int, int]] = set()
        self._half = len(image.source.plan.views) * members // 2

    def views_per_batch(self, batch_size: int) -> int:
        return batch_size // len(IMAGES)

    def keep(self, view: int, members: Sequence[int], probabilities: NDArray[np.float32]) -> None:
        assert probabilities.shape == (len(members), COUNT)
        self._rows |= {(view, member) for member in members}

    def result(self) -> int | None:
        return len(self._rows) if len(self._rows) > self._half else None


def test_what_becomes_of_an_image_is_handed_in() -> None:
    recorder = _Recorder()
    members = {"a": recorder, "b": colour_classifier(2)}
    results = list(Engine(members, lambda image: _CountedImage(image, 2), CPU, 6).run(IMAGES_FOR_TWO))
    # Two crops of each image in every batch, ten crops an image: known with six, so after three batches.
    assert recorder.batches == [6, 6, 6]
    assert results == [12, 12, 12]


def test_a_result_that_is_false_is_one() -> None:
    class Nothing(_CountedImage):
        def result(self) -> int:
            return 0

    assert list(Engine({"a": _Recorder()}, lambda image: Nothing(image, 1), CPU, 6).run(IMAGES)) == [0, 0, 0]


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler
@pytest.mark.parametrize(
    ("backend", "precision", "atol"),
    [
        ("torch", "float32", 1e-4),
        ("torch", "bfloat16", 0.05),
        ("torch", "float16", 0.02),
        ("compiled", "float32", 1e-4),
        ("compiled", "float16", 0.02),
    ],
)
def test_cuda_agrees_with_the_cpu(
    networks: dict[str, nn.Module], backend: Backend, precision: Precision, atol: float
) -> None:
    cuda = torch.device("cuda", 0)
    # The last has the first one's shape: compiled, they share code.
    formats = [(name, input_format) for name, (_, _, input_format) in NETWORKS.items()] + [("c", InputFormat())]
    of_three = {**networks, "c": tiny_network("googlenet", width=NETWORKS["a"][1], seed=9)}
    make = PredictMaker(backend, COUNT, cuda, precision)
    members, reference = {}, {}
    for name, input_format in formats:
        member = Member(name, arch="googlenet", weights=Path("unused.safetensors"), input=input_format)
        reference[name] = PredictMaker("torch", COUNT, CPU, "float32")(member, copy.deepcopy(of_three[name]))
        members[name] = make(member, copy.deepcopy(of_three[name]))
    images = [_ready(name, 144, members=3) for name in SIZES]
    pinned = [dataclasses.replace(image, source=image.source.pinned()) for image in images]
    # Six batches, so that a graph is captured and then replayed.
    on_cpu, on_cuda = _evaluated(reference, images, 64), _evaluated(members, pinned, 64, cuda)
    for result, expected in zip(on_cuda, on_cpu, strict=True):
        for scheme, means in expected.mean_softmax.items():
            np.testing.assert_allclose(result.mean_softmax[scheme], means, rtol=0, atol=atol)
            if precision == "float32":
                assert np.array_equal(result.mean_softmax[scheme].argmax(axis=1), means.argmax(axis=1))
    scores = {result.id: result for result in on_cuda}
    decided = list(Engine(members, lambda image: DecidedImage(image, 3, COUNT, (5,)), cuda, 64).run(pinned))
    assert len(decided) == len(images)
    for one in decided:
        assert isinstance(one, ImageDecisions)
        for scheme, by_k in one.top_k.items():
            ranks = [label_rank(row, one.label) for row in with_ensemble(scores[one.id].mean_softmax[scheme])]
            assert list(by_k[5]) == [rank < 5 for rank in ranks]
