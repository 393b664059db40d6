"""OpenVINO against torch's own kernels on the same networks."""

import base64
import ctypes
import json
import os
import platform
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import CLASSES, encoded, googlenet_plan, picture, tiny_network
from numpy.typing import NDArray
from torch import Tensor, nn

from ensemble_eval.backends.conversion_cache import ConversionCache
from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.crops import pixels
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.models.layers import fold_batch_norm
from ensemble_eval.settings import Backend, Precision

openvino_backend = pytest.importorskip(
    "ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed"
)
openvino = openvino_backend.openvino
OpenVinoNetwork = openvino_backend.OpenVinoNetwork

# What oneDNN's variable keeps from its kernels is not there, whatever OpenVINO says of the processor.
HALF_PRECISION = os.environ.get("ONEDNN_MAX_CPU_ISA") != "AVX2"
CAPABILITIES = openvino_backend.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") if HALF_PRECISION else ()
CPU = torch.device("cpu")
NO_FILE = Path("unused.safetensors")
BGR = InputFormat(channels="bgr", scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))


def crops(count: int) -> Tensor:
    pictures = np.stack([np.asarray(picture(224, 224, seed)) for seed in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def predict_with(
    backend: Backend, arch: str, input_format: InputFormat, precision: Precision = "float32"
) -> Predict:
    member = Member("a", arch=arch, weights=NO_FILE, input=input_format)
    return PredictMaker(backend, CLASSES.count, CPU, precision)(member, tiny_network(arch))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "input_format"), [("googlenet", InputFormat(transform_input=True)), ("googlenet-paper", BGR)]
)
def test_float32_agrees_with_torch_for_any_batch(arch: str, input_format: InputFormat) -> None:
    expected = predict_with("torch", arch, input_format)(crops(5))
    predict = predict_with("openvino", arch, input_format)
    np.testing.assert_allclose(predict(crops(5)), expected, atol=1e-5)
    np.testing.assert_allclose(predict(crops(1)), expected[:1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "capability"), [("bfloat16", "BF16"), ("float16", "FP16")])
def test_half_precision_is_what_it_says_or_refused(precision: Precision, capability: str) -> None:
    """Never float32 under its name: the run's record would say what was not done."""
    predict = predict_with("openvino", "googlenet", InputFormat(), precision)
    if capability not in CAPABILITIES:
        with pytest.raises(InputError, match=f"this processor has no {precision}"):
            predict(crops(3))
        return
    expected = predict_with("openvino", "googlenet", InputFormat())(crops(3))
    rounded = predict(crops(3))
    assert float((rounded - expected).abs().max()) > 1e-5
    np.testing.assert_allclose(rounded, expected, atol=0.05)
    np.testing.assert_allclose(rounded.sum(dim=1), 1, atol=1e-6)


def test_local_response_normalisation_in_float16_is_refused() -> None:
    with pytest.raises(InputError, match=r"member a normalises local responses, .*float32.` or bfloat16"):
        predict_with("openvino", "googlenet-paper", BGR, "float16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_do_not_depend_on_neighbours_or_order_by_a_single_bit(precision: Precision) -> None:
    """As tests/engine/test_loop.py shows for torch; this is what a CPU takes by itself."""
    if precision == "bfloat16" and "BF16" not in CAPABILITIES:
        pytest.skip("this processor has no bfloat16")
    members = {"a": predict_with("openvino", "googlenet", InputFormat(), precision)}
    sizes = ((101, 67), (64, 64), (60, 90))
    images = []
    for position, (width, height) in enumerate(sizes):
        image = pixels.decode(encoded(picture(width, height, seed=position)))
        source = pixels.prepare(image, googlenet_plan(width, height, 10))
        images.append(ReadyImage(position, str(position), 3, source))

    def evaluated(some: list[ReadyImage]) -> dict[str, NDArray[np.float64]]:
        results = Engine(members, lambda image: ScoredImage(image, 1, CLASSES.count), CPU, 16).run(some)
        return {result.id: result.mean_softmax[10] for result in results if isinstance(result, ImageScores)}

    together = evaluated(images)
    assert len(together) == len(sizes)
    for company in (images[::-1], *([image] for image in images)):
        for name, scores in evaluated(company).items():
            assert np.array_equal(scores, together[name])


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def _signal_stack() -> int | None:
    stack = _SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    address: int | None = stack.address
    return address


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="the structure is Linux's")
def test_networks_that_come_and_go_leave_the_stack_of_signal_handlers_alone() -> None:
    first = predict_with("openvino", "googlenet", InputFormat())
    first(crops(1))
    stack = _signal_stack()
    second = predict_with("openvino", "googlenet", InputFormat())
    second(crops(1))
    del first
    assert _signal_stack() == stack
    del second
    assert _signal_stack() == stack


def _probabilities(model: Any, network_input: Tensor) -> Tensor:
    def normalised(batch: Tensor) -> Tensor:
        return batch.contiguous(memory_format=torch.channels_last)

    probabilities: Tensor = NetworkPredict("a", normalised, CLASSES.count, OpenVinoNetwork(model, "float32"))(
        network_input
    )
    return probabilities


@pytest.mark.slow
def test_a_second_network_of_one_shape_is_the_first_ones_model_with_its_own_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted: list[nn.Module] = []
    convert = openvino_backend._converted

    def counted(network: nn.Module, size: int) -> Any:
        converted.append(network)
        return convert(network, size)

    monkeypatch.setattr(openvino_backend, "_converted", counted)
    converter = openvino_backend.Converter(CROP_SIZE)
    first, second, wider = (
        fold_batch_norm(tiny_network(seed=seed, width=width)) for seed, width in ((1, 0.05), (2, 0.05), (3, 0.08))
    )
    models = [converter(network) for network in (first, second, wider, first)]
    assert [repr(network) for network in converted] == [repr(first), repr(wider)]
    batch = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    for network, model in zip((first, second, wider, first), models, strict=True):
        with torch.inference_mode():
            expected = torch.softmax(network(batch), dim=1)
        np.testing.assert_allclose(_probabilities(model, batch), expected, atol=1e-5)
    assert torch.equal(_probabilities(models[1], batch), _probabilities(convert(second, CROP_SIZE), batch))


def _converted_by_openvino_alone(network: nn.Module) -> Any:
    """As OpenVINO's documentation has it: it traces with pictures of full size, and checks the trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(2, 3, 224, 224)
        model = openvino.convert_model(network, example_input=example, input=[(-1, 3, 224, 224)])
    steps = openvino_backend.PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["googlenet", "googlenet-paper", "googlenet-naive"])
def test_a_network_converted_with_and_without_a_cache_predicts_what_openvinos_own_conversion_does(
    arch: str, tmp_path: Path
) -> None:
    network = fold_batch_norm(tiny_network(arch))
    with torch.no_grad():
        # Values that leave a doubt which constant is which, and a bias that adds nothing.
        network.get_parameter("conv1.conv.bias").fill_(0.5)
        network.get_parameter("conv2.conv.bias").fill_(0.5)
        network.get_parameter("fc.bias").zero_()
    cache = ConversionCache(tmp_path)
    expected = _probabilities(_converted_by_openvino_alone(network), batch := torch.rand(3, 3, 224, 224))
    for cached in (None, cache, cache):
        assert torch.equal(_probabilities(openvino_backend.Converter(CROP_SIZE, cached)(network), batch), expected)
    assert len(list(tmp_path.iterdir())) == (arch == "googlenet")


@pytest.mark.slow
def test_what_is_kept_has_no_weights_and_what_is_damaged_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, converted = ConversionCache(tmp_path), list[nn.Module]()
    convert = openvino_backend._converted

    def counted(network: nn.Module, size: int) -> Any:
        converted.append(network)
        return convert(network, size)

    monkeypatch.setattr(openvino_backend, "_converted", counted)
    one, other = (fold_batch_norm(tiny_network(seed=seed)) for seed in (1, 2))
    openvino_backend.Converter(CROP_SIZE, cache)(one)
    [kept] = tmp_path.iterdir()
    sound = kept.read_bytes()
    described = json.loads(zlib.decompress(sound[32:]))
    constants = zlib.decompress(base64.b64decode(described["constants"]))
    # Axes and shapes only.
    assert len(constants) > 10_000
    assert sum(byte != 0 for byte in constants) < 50
    openvino_backend.Converter(CROP_SIZE, cache)(other)
    assert len(converted) == 1
    for spoilt in (sound[:-1], sound[:40] + b"!" + sound[41:], b""):
        kept.write_bytes(spoilt)
        openvino_backend.Converter(CROP_SIZE, cache)(other)
        assert kept.read_bytes() != spoilt
    # Whole, but of somebody else.
    cache.put(openvino_backend._cache_key(f"{CROP_SIZE} {one!r}"), b"{}")
    openvino_backend.Converter(CROP_SIZE, cache)(one)
    assert len(converted) == 5
    batch = torch.rand(1, 3, 224, 224)
    for network in (one, other):
        expected = _probabilities(openvino_backend.Converter(CROP_SIZE)(network), batch)
        assert torch.equal(_probabilities(openvino_backend.Converter(CROP_SIZE, cache)(network), batch), expected)


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3))
        return means if means.sum() > 0 else -means


class _TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(dim=(2, 3)), x.amax(dim=(2, 3))


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (_Branching(), "cannot be converted for OpenVINO .*; choose `backend=.torch.`"),
        (_TwoOutputs(), "its network returns 2 tensors, and it must return logits alone"),
    ],
)
def test_what_conversion_would_falsify_is_refused(network: nn.Module, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        openvino_backend.Converter(CROP_SIZE)(network)


class _CheckingItsInput(nn.Module):
    """Refuses another shape, as timm's transformers do, which a trace takes for a decision."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 7)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != 96:
            raise ValueError("it takes 96 pixels")
        logits: Tensor = self.classifier(x.amax(dim=(2, 3)))
        return logits


def test_a_network_that_checks_the_shape_of_its_input_is_run() -> None:
    torch.manual_seed(0)
    network, crops = _CheckingItsInput().eval(), torch.randint(0, 256, (5, 3, 96, 96), dtype=torch.uint8)
    member = Member("a", network=network, input=InputFormat.imagenet())
    ours, theirs = (
        PredictMaker(backend, 7, CPU, "float32", size=96)(member, network)(crops)
        for backend in ("openvino", "torch")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
