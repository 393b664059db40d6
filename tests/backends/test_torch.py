from typing import Any

import pytest
import torch
from builders import CLASS_NAMES, randomise
from torch import Tensor, nn

from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.backends.torch import torch_logits
from ensemble_eval.engine.predict import OutOfDeviceMemoryError
from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing, SharedPreprocessing
from ensemble_eval.settings import Precision

CPU = torch.device("cpu")


def _crops(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=generator)


def _network() -> nn.Module:
    """Small, and tame enough for half precision to stay near float32."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 9, stride=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, len(CLASS_NAMES)),
    )
    return randomise(layers, seed=1)


def _eager(
    network: nn.Module, precision: Precision = "float32", classes: int = len(CLASS_NAMES)
) -> NetworkPredict:
    return NetworkPredict(
        "a", SharedPreprocessing(InputFormat(), CPU), classes, torch_logits(network, CPU, precision)
    )


@pytest.mark.parametrize(
    ("input_format", "expected"),
    [
        # One pixel of (51, 102, 204); by hand.
        (InputFormat(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), (0.2, 0.4, 0.8)),
        (InputFormat(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.5)), (0.2, 0.8, 1.0)),
        (InputFormat("bgr", 1.0, (104.0, 117.0, 123.0), (1.0, 1.0, 1.0)), (100.0, -15.0, -72.0)),
        # transform_input undoes ImageNet's mean and deviation: what is left is 2x - 1.
        (InputFormat(transform_input=True), (-0.6, -0.2, 0.6)),
    ],
)
def test_pixels_become_a_members_input(input_format: InputFormat, expected: tuple[float, ...]) -> None:
    pixel = torch.tensor([51, 102, 204], dtype=torch.uint8).view(1, 3, 1, 1)
    output = Preprocessing(input_format)(pixel)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    network, crops = _network(), _crops(3)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network((crops.double() / 255 - mean.view(3, 1, 1)).div(std.view(3, 1, 1)).float())
        expected = logits.double().exp() / logits.double().exp().sum(dim=1, keepdim=True)
    probabilities = _eager(network)(crops)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_float32_and_its_softmax_adds_up(precision: Precision) -> None:
    crops = _crops(2)
    full, half = _eager(_network())(crops), _eager(_network(), precision)(crops)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.sum(dim=1), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(half, full, rtol=0, atol=0.01)
    assert not torch.equal(half, full)


class _Raising(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def forward(self, _x: Tensor) -> Tensor:
        raise self._error


def _during(first: Exception, second: Exception) -> Exception:
    """The second, raised while the first was handled."""
    second.__context__ = first
    return second


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        _during(
            torch.OutOfMemoryError("CUDA out of memory."),
            RuntimeError("CUDA error: operation failed due to a previous error during capture"),
        ),
    ],
)
def test_running_out_of_memory_has_its_own_error(error: Exception) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match=r"^member a: a batch of 2$"):
        _eager(_Raising(error))(_crops(2))


def test_an_error_that_may_be_one_of_memory_keeps_its_words() -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    with pytest.raises(OutOfDeviceMemoryError, match=r"a batch of 2 \(GET was unable to find an engine"):
        _eager(_Raising(error))(_crops(2))


def test_another_error_is_named_with_the_member_and_is_the_cause() -> None:
    fault = ValueError("a fault\nin two lines")
    with pytest.raises(
        InputError, match=r"^member a: its network raises ValueError \(a fault\); fix it$"
    ) as caught:
        _eager(_Raising(fault))(_crops(1))
    assert caught.value.__cause__ is fault


class _Returning(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value

    def forward(self, _x: Tensor) -> Any:
        return self._value


@pytest.mark.parametrize(
    ("value", "given"),
    [
        (torch.zeros(2, 8), r"\(2, 8\)"),
        (torch.zeros(2, 7, 1, 1), r"\(2, 7, 1, 1\)"),
        ((1, 2), "tuple"),
        (None, "NoneType"),
    ],
)
def test_a_network_that_returns_no_logits_is_refused(value: object, given: str) -> None:
    with pytest.raises(InputError, match=rf"member a returns {given} for 2 crops, .* need \(2, 7\)"):
        _eager(_Returning(value))(_crops(2))
