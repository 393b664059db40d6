"""The whole way of a batch on `cuda:0` with tensors that have a device, a dtype and a shape, and no values.

An operation of tensors on two devices fails there as it does with a GPU. Dtypes are torch's own rules.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import CLASS_NAMES, encoded, googlenet_plan, picture
from graph_stand_ins import StandInGraphs
from stream_stand_ins import StandInStreams
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.backends.torch import CapturedForward
from ensemble_eval.crops import pixels
from ensemble_eval.engine.batches import Batch
from ensemble_eval.engine.full_scores import ImageScores, ScoredImage
from ensemble_eval.engine.pool import ReadyImage
from ensemble_eval.engine.predict import Forward, Predict
from ensemble_eval.engine.runners import StreamRunner
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.models.layers import fold_batch_norm
from ensemble_eval.models.registry import build
from ensemble_eval.settings import PRECISIONS, Precision

pytestmark = [pytest.mark.cuda_checks, pytest.mark.usefixtures("real_devices")]

CUDA = torch.device("cuda", 0)
COUNT = len(CLASS_NAMES)
BGR = InputFormat("bgr", 1.0, (104.0, 117.0, 123.0), (57.0, 57.0, 57.0))
# Members of the registry; the last has local response normalisation.
MEMBERS = {"a": ("googlenet", InputFormat()), "b": ("googlenet", BGR), "c": ("googlenet-paper", InputFormat())}


def _move(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` for fake tensors, which cannot be swapped in place; no parameter requires gradients."""
    del recurse
    for one in module.modules():
        for name, parameter in one._parameters.items():
            if parameter is not None:
                one._parameters[name] = nn.Parameter(change(parameter), requires_grad=False)
        for name, buffer in one._buffers.items():
            if buffer is not None:
                one._buffers[name] = change(buffer)
    return module


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(nn.Module, "_apply", _move)
    with FakeTensorMode():
        yield


def _predict(name: str, precision: Precision, *, theirs: bool = False) -> Predict:
    arch, input_format = MEMBERS[name]
    member = Member(
        name, arch="python:some:network" if theirs else arch, weights=Path("unused"), input=input_format
    )
    with unset_fake_temporarily():
        # To fold is to copy modules, and copies of fake tensors belong nowhere.
        network = fold_batch_norm(build(arch, COUNT, width=0.05).eval()).requires_grad_(False)
    fake = _move(network, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
    return PredictMaker("torch", COUNT, CUDA, precision)(member, fake)


def _image(scheme: int, members: int) -> ReadyImage:
    """Its plan and its regions are those of a picture, its pixels are fake."""
    size = (101, 67)
    with unset_fake_temporarily():
        real = pixels.prepare(pixels.decode(encoded(picture(*size))), googlenet_plan(*size, scheme, members))
    fake = torch.empty(len(real.pixels), dtype=torch.uint8)
    return ReadyImage(0, "image", 0, pixels.CropSource(real.plan, fake, real.regions))


@dataclass
class _Seen:
    """Dtypes of what went into operations, by their names."""

    dtypes: dict[str, set[torch.dtype]] = field(default_factory=dict)


@contextlib.contextmanager
def _dtypes() -> Iterator[_Seen]:
    seen = _Seen()

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = {one.dtype for one in args if isinstance(one, Tensor)}
            seen.dtypes.setdefault(func.overloadpacket.__name__, set()).update(given)
            return func(*args, **(kwargs or {}))

    with Watching():  # type: ignore[no-untyped-call]  # torch's
        yield seen


def _outcome(forward: Forward, members: tuple[int, ...], scheme: int, size: int) -> tuple[Tensor, _Seen]:
    """What the members say of a batch, on the device, and the dtypes on the way there."""
    outcomes: list[Tensor] = []

    class Watched(Forward):
        def __call__(self, crop_batch: Tensor, members: Any, /) -> Tensor:
            assert crop_batch.device == CUDA
            assert crop_batch.is_contiguous(memory_format=torch.channels_last)
            outcomes.append(forward(crop_batch, members))
            return outcomes[0]

    runner: StreamRunner[ImageScores] = StreamRunner(Watched([]), CUDA, StandInStreams())
    with _dtypes() as seen:
        image = runner.admit(_image(scheme, len(members)))
        batch: Batch[ImageScores] = Batch(size, members)
        batch.take_from(ScoredImage(image, len(members), COUNT), size)
        runner.launch(batch)
    [outcome] = outcomes
    return outcome, seen


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_stays_on_the_device_in_every_precision(precision: Precision, captured: bool) -> None:
    members = {name: _predict(name, precision) for name in MEMBERS}
    graphs = StandInGraphs()
    forward: Forward = (
        CapturedForward(members, lambda: None, graphs) if captured else Forward(tuple(members.values()))
    )
    outcome, seen = _outcome(forward, (0, 1, 2), 10, 16)
    assert outcome.device == CUDA
    assert outcome.dtype == torch.float32
    assert outcome.shape == (3, 16, COUNT)
    assert graphs.captures == captured
    dtype = getattr(torch, precision)
    assert seen.dtypes["conv2d"] == {dtype}
    assert seen.dtypes["softmax"] == {torch.float32}
    # The averages over adjacent channels, whatever the precision.
    assert seen.dtypes["avg_pool3d"] == {torch.float32}
    assert seen.dtypes["div"] >= {torch.float32}


@pytest.mark.parametrize("name", ["a", "c"])
def test_no_pass_casts_weights(name: str) -> None:
    """They are cast when the member is made. To cast them in each pass would cost time, and nothing would tell."""
    casts: list[Tensor] = []

    class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            outcome = func(*args, **(kwargs or {}))
            if func.overloadpacket is torch.ops.aten.to and outcome.dtype != args[0].dtype:
                casts.append(args[0])
            return outcome

    predict = _predict(name, "bfloat16")
    with Casts():  # type: ignore[no-untyped-call]  # torch's
        predict(torch.empty(4, 3, 224, 224, dtype=torch.uint8, device=CUDA))
    assert casts
    assert not [tensor for tensor in casts if isinstance(tensor, nn.Parameter)]
    assert {len(tensor) for tensor in casts} == {4}, "activations of four crops alone are cast"


def test_somebody_elses_network_keeps_its_weights_and_is_not_captured() -> None:
    """In float32 only: torch's autocast to other precisions does nothing without CUDA, and warns of it."""
    members = {"a": _predict("a", "float32", theirs=True)}
    graphs = StandInGraphs()
    forward = CapturedForward(members, lambda: None, graphs)
    outcome, seen = _outcome(forward, (0,), 1, 4)
    assert outcome.device == CUDA
    assert outcome.dtype == torch.float32
    assert graphs.captures == 0
    assert seen.dtypes["conv2d"] == {torch.float32}


def test_two_devices_in_one_operation_show() -> None:
    """What the other tests rest on."""

    def on_the_cpu(crops: Tensor) -> Tensor:
        return crops[:, 0, 0, :COUNT].float() + torch.zeros(COUNT)

    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        _outcome(Forward([on_the_cpu]), (0,), 1, 4)
