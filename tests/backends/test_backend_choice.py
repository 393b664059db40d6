"""Which backend is taken, and what backends have in common."""

import importlib.util
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from builders import CLASS_NAMES, randomise, tiny_network
from conftest import CUDA_IS_PRETENDED
from torch import Tensor, nn

from ensemble_eval.backends.opening import PredictMaker, choose_backend, default_batch_size
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.registry import build

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CROPS = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def _member(arch: str = "googlenet", input_format: InputFormat | None = None) -> Member:
    return Member("a", arch=arch, weights=Path("unused.safetensors"), input=input_format or InputFormat())


def _hide_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def test_auto_is_openvino_on_a_cpu_that_has_it_and_torch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert choose_backend("auto", CPU) == "openvino"
    assert choose_backend("auto", CUDA) == "torch"
    _hide_openvino(monkeypatch)
    assert choose_backend("auto", CPU) == "torch"


def test_a_backend_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"openvino runs on the CPU, not on cuda; choose `backend=.torch.`"):
        choose_backend("openvino", CUDA)
    _hide_openvino(monkeypatch)
    with pytest.raises(InputError, match=r"is not installed; run: pip install 'ensemble-eval\[cpu\]', or"):
        choose_backend("openvino", CPU)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_default_batches_are_whole_slots(device: torch.device) -> None:
    """Of 16 crops: else rows of one slot would be aligned differently, see `Batch`."""
    assert default_batch_size(device) % 16 == 0


def test_members_of_one_preprocessing_normalise_a_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    normalise = SharedPreprocessing.__call__

    def counted(self: SharedPreprocessing, crops: Tensor) -> Tensor:
        calls.append(normalise(self, crops))
        return calls[-1]

    monkeypatch.setattr(SharedPreprocessing, "__call__", counted)
    make = PredictMaker("torch", len(CLASS_NAMES), CPU, "float32")
    formats = (InputFormat(), InputFormat(), InputFormat(transform_input=True))
    for predict in [make(_member(input_format=each), tiny_network()) for each in formats]:
        predict(CROPS)
    assert calls[0] is calls[1]
    assert not torch.equal(calls[0], calls[2])


def test_another_batch_is_normalised_anew() -> None:
    normalise = SharedPreprocessing(InputFormat(), CPU)
    first = normalise(CROPS)
    assert normalise(CROPS) is first
    assert torch.equal(normalise(255 - CROPS), normalise(255 - CROPS))
    assert not torch.equal(normalise(255 - CROPS), first)


def test_a_normalised_batch_goes_with_its_crops() -> None:
    normalise = SharedPreprocessing(InputFormat(), CPU)
    crops = CROPS.clone()
    normalised = weakref.ref(normalise(crops))
    assert normalised() is not None
    del crops
    assert normalised() is None


def test_someone_elses_network_may_work_on_its_input_in_place() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(3, len(CLASS_NAMES))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.classifier(x.zero_().mean(dim=(2, 3)))
            return logits

    make = PredictMaker("torch", len(CLASS_NAMES), CPU, "float32")
    alone = make(_member(), tiny_network())(CROPS)
    ours, theirs = make(_member(), tiny_network()), make(_member("python:some:Network"), InPlace())
    first = ours(CROPS)
    theirs(CROPS)
    assert torch.equal(ours(CROPS), first)
    assert torch.equal(first, alone)


@pytest.mark.parametrize("arch", ["googlenet", "googlenet-paper", "googlenet-naive"])
def test_folded_batch_norm_changes_probabilities_by_rounding_only(arch: str) -> None:
    network = randomise(build(arch, len(CLASS_NAMES), width=0.05), seed=2)
    normalised = SharedPreprocessing(InputFormat(), CPU)(CROPS)
    with torch.inference_mode():
        expected = torch.softmax(network(normalised), dim=1)
    predict = PredictMaker("torch", len(CLASS_NAMES), CPU, "float32")(_member(arch), network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(predict(CROPS), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch's compiler needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.skipif(bool(CUDA_IS_PRETENDED), reason=CUDA_IS_PRETENDED)
def test_members_of_one_shape_are_compiled_once_and_agree_with_eager_ones() -> None:
    def network(seed: int) -> nn.Module:
        layers = [nn.Conv2d(3, 8, 9, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return randomise(nn.Sequential(*layers, nn.Linear(8, len(CLASS_NAMES))), seed)

    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    eager, compiled = (
        [
            PredictMaker(backend, len(CLASS_NAMES), CPU, "float32")(_member("python:a:b"), network(i))
            for i in range(3)
        ]
        for backend in ("torch", "compiled")
    )
    outputs = [predict(CROPS) for predict in compiled]
    for output, predict in zip(outputs, eager, strict=True):
        torch.testing.assert_close(output, predict(CROPS), rtol=0, atol=1e-5)
    assert not torch.equal(outputs[0], outputs[1])
    assert counters["stats"]["unique_graphs"] == 1
    # Another size of batch, as when one did not fit into memory.
    for predict in compiled:
        predict(CROPS[:1])
    assert counters["stats"]["unique_graphs"] == 2
