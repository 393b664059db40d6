"""An evaluation as a library: torch's flags, warnings, signals and surroundings are afterwards what they were."""

import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import CLASS_NAMES, googlenet_plan, picture, randomise
from conftest import CUDA_IS_PRETENDED, CUDA_IS_THERE
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.backends.torch import torch_logits
from ensemble_eval.crops import pixels
from ensemble_eval.engine.full_scores import ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.errors import InputError
from ensemble_eval.jobs.devices import choose_device
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.settings import BACKENDS, Backend

COUNT = len(CLASS_NAMES)
BACKEND: Any = torch.backends  # torch's stubs lack most of what is read here


def _precisions() -> dict[str, object]:
    """torch's flags for float32; those that contradict each other cannot be read."""
    read: dict[str, Callable[[], object]] = {
        "all": lambda: BACKEND.fp32_precision,
        "products": lambda: BACKEND.cuda.matmul.fp32_precision,
        "convolutions": lambda: BACKEND.cudnn.conv.fp32_precision,
        "recurrent": lambda: BACKEND.cudnn.rnn.fp32_precision,
        "products on the CPU": lambda: BACKEND.mkldnn.matmul.fp32_precision,
        "convolutions on the CPU": lambda: BACKEND.mkldnn.conv.fp32_precision,
        "older, products": torch.get_float32_matmul_precision,
        "older, TF32 in products": lambda: BACKEND.cuda.matmul.allow_tf32,
        "older, TF32 in convolutions": lambda: BACKEND.cudnn.allow_tf32,
    }
    flags: dict[str, object] = dict.fromkeys(read)
    for name, flag in read.items():
        with suppress(RuntimeError):
            flags[name] = flag()
    return flags


def _process() -> dict[str, object]:
    """What a library has no business to change."""
    return {
        # First, because torch imports its compiler here, which changes some of the others.
        "dynamo": {
            name: getattr(torch._dynamo.config, name)
            for name in ("recompile_limit", "fail_on_recompile_limit_hit")
        },
        "precisions": _precisions(),
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        # torch's compiler hands an address to its own C++ code in a variable that nobody else reads.
        "environment": {
            name: value for name, value in os.environ.items() if not name.startswith("_TORCHINDUCTOR_")
        },
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        "device": torch.cuda.current_device() if CUDA_IS_THERE else None,
    }


@pytest.fixture
def as_found() -> Iterator[None]:
    """Put torch's flags back, newer ones last."""
    flags = _precisions()
    yield
    torch.set_float32_matmul_precision(str(flags["older, products"]))
    BACKEND.cudnn.allow_tf32 = flags["older, TF32 in convolutions"]
    BACKEND.fp32_precision = flags["all"]
    BACKEND.cuda.matmul.fp32_precision = flags["products"]
    BACKEND.mkldnn.matmul.fp32_precision = flags["products on the CPU"]
    BACKEND.mkldnn.conv.fp32_precision = flags["convolutions on the CPU"]
    BACKEND.cudnn.conv.fp32_precision = flags["convolutions"]
    BACKEND.cudnn.rnn.fp32_precision = flags["recurrent"]
    assert _precisions() == flags


def _newer(owner: Any, precision: str) -> Callable[[], None]:
    return lambda: setattr(owner, "fp32_precision", precision)


USERS: dict[str, Callable[[], None]] = {
    "torch's defaults": lambda: None,
    "tf32": lambda: setattr(BACKEND.cuda.matmul, "allow_tf32", True),
    "no tf32": lambda: setattr(BACKEND.cudnn, "allow_tf32", False),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "newer, products": _newer(BACKEND.cuda.matmul, "tf32"),
    "newer, convolutions": _newer(BACKEND.cudnn.conv, "ieee"),
    "newer, all": _newer(BACKEND, "tf32"),
}


@pytest.mark.usefixtures("as_found")
@pytest.mark.parametrize("users", USERS)
def test_float32_is_float32_inside_and_the_users_flags_come_back(users: str) -> None:
    USERS[users]()
    before = _precisions()
    with full_float32():
        inside = _precisions()
    assert [inside[name] for name in before if not name.startswith(("older", "all"))] == ["ieee"] * 5
    assert inside["older, TF32 in convolutions"] in (False, None)
    assert inside["older, TF32 in products"] is False
    assert _precisions() == before
    with pytest.raises(ValueError, match="a fault"), full_float32():
        raise ValueError("a fault")
    assert _precisions() == before


@pytest.mark.usefixtures("as_found")
def test_float32_stays_float32_while_another_thread_leaves() -> None:
    USERS["medium"]()
    before = _precisions()
    first, second = full_float32(), full_float32()
    first.__enter__()
    inside = _precisions()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _precisions() == inside != before
    second.__exit__(None, None, None)
    assert _precisions() == before


def _network() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 9, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    return randomise(nn.Sequential(*layers, nn.Linear(392, COUNT)), seed=1)


def _evaluate(backend: Backend, device: torch.device) -> list[object]:
    member = Member("a", arch="python:some:Network", weights=Path("unused.safetensors"))
    members = {"a": PredictMaker(backend, COUNT, device, "float32")(member, _network())}
    source = pixels.prepare(transforms.pil_to_tensor(picture(64, 48)), googlenet_plan(64, 48, 10))
    engine = Engine(members, lambda image: ScoredImage(image, 1, COUNT), device, 4)
    results = list(engine.run([ReadyImage(0, "image", 0, source)]))
    return [scores.mean_softmax[10].tolist() for scores in results if hasattr(scores, "mean_softmax")]


@pytest.mark.slow
@pytest.mark.usefixtures("as_found")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler
@pytest.mark.parametrize("users", ["torch's defaults", "medium"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_an_evaluation_leaves_the_process_as_it_found_it(name: str, backend: Backend, users: str) -> None:
    if name == "cuda" and backend == "openvino":
        pytest.skip("openvino runs on the CPU")
    if name == "cpu" and backend == "compiled" and CUDA_IS_PRETENDED:
        pytest.skip(CUDA_IS_PRETENDED)
    if backend == "openvino":
        pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")
    if backend == "compiled" and shutil.which("c++") is None:
        pytest.skip("torch's compiler needs a C++ compiler")
    device = choose_device(name)
    untouched = _process()
    expected = _evaluate(backend, device)
    assert len(expected) == 1
    assert _process() == untouched
    USERS[users]()
    before = _process()
    assert _evaluate(backend, device) == expected
    assert _process() == before


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_network_that_fails_leaves_the_process_as_it_was_too(name: str) -> None:
    class Failing(nn.Module):
        def forward(self, _x: Tensor) -> Tensor:
            seen.append(_precisions())
            raise RuntimeError("a fault")

    seen: list[dict[str, object]] = []
    device = choose_device(name)
    preprocess = Preprocessing(InputFormat()).to(device)
    predict = NetworkPredict("a", preprocess, COUNT, torch_logits(Failing(), device, "float32"))
    before = _process()
    with pytest.raises(InputError, match="member a: its network raises RuntimeError"):
        predict(torch.zeros(1, 3, 224, 224, dtype=torch.uint8, device=device))
    assert _process() == before
    assert seen[0]["products"] == seen[0]["convolutions"] == "ieee"
