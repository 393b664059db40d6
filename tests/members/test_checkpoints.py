"""What training scripts save: containers, averages and prefixes, each written by torch's own classes."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import CLASS_NAMES, TINY, tiny_network
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.importers.layouts import architecture_of, options_of
from ensemble_eval.members.loading import load_member
from ensemble_eval.models.registry import build

COUNT = len(CLASS_NAMES)
StateDict = dict[str, Tensor]


@pytest.fixture(scope="module")
def raw() -> StateDict:
    return dict(tiny_network(seed=1).state_dict())


@pytest.fixture(scope="module")
def average() -> StateDict:
    return dict(AveragedModel(tiny_network(seed=2)).state_dict())


def _loaded(path: Path, **fields: Any) -> tuple[Tensor, list[str]]:
    notes: list[str] = []
    network = load_member(Member("a", weights=path, **fields), COUNT, tell=notes.append)
    return network.state_dict()["fc.weight"], notes


def _with(prefix: str) -> Callable[[StateDict], StateDict]:
    return lambda raw: {f"{prefix}{name}": value for name, value in raw.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda raw: {"model": raw, "optimizer": {"lr": 0.1}, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda raw: {"state_dict": _with("module.")(raw), "best_acc1": torch.tensor(0.7)},
        lambda raw: {"epoch": 1, "global_step": 5, "state_dict": _with("model.")(raw)},
        lambda raw: {"state_dict": _with("model._orig_mod.")(raw)},
        _with("module."),
        _with("_orig_mod."),
        _with("module._orig_mod."),
    ],
    ids=["torchvision", "imagenet", "lightning", "lightning-compiled", "parallel", "compiled", "both"],
)
def test_name_and_weights_alone_make_a_member_of_a_training_scripts_file(
    tmp_path: Path, raw: StateDict, wrapped: Callable[[StateDict], Any]
) -> None:
    torch.save(wrapped(raw), tmp_path / "a.pth")
    weight, notes = _loaded(tmp_path / "a.pth")
    assert torch.equal(weight, raw["fc.weight"])
    assert notes == []
    member = Member("a", weights=tmp_path / "a.pth")
    assert (member.arch, member.input) == ("googlenet", InputFormat())


@pytest.mark.usefixtures("real_devices")
@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_the_state_dict_of_a_wrapped_network_loads(
    tmp_path: Path, raw: StateDict, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    torch.save(wrap(tiny_network(seed=1)).state_dict(), tmp_path / "a.pth")
    assert torch.equal(_loaded(tmp_path / "a.pth")[0], raw["fc.weight"])


@pytest.mark.parametrize("key", ["model_ema", "ema", "state_dict_ema"])
def test_of_raw_and_averaged_weights_the_averaged_are_taken_and_said(
    tmp_path: Path, raw: StateDict, average: StateDict, key: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": raw, key: average}, path)
    weight, notes = _loaded(path)
    assert torch.equal(weight, average["module.fc.weight"])
    assert notes == [
        f"member a: the weights {path} hold raw and averaged weights; the averaged are used "
        "(`averaged = false` takes the raw)"
    ]
    assert torch.equal(_loaded(path, averaged=False)[0], raw["fc.weight"])
    weight, notes = _loaded(path, averaged=True)
    assert torch.equal(weight, average["module.fc.weight"])
    assert notes == []


def test_safetensors_hold_both_under_prefixes(tmp_path: Path, raw: StateDict, average: StateDict) -> None:
    path = tmp_path / "a.safetensors"
    save_file({**_with("model.")(raw), **_with("ema.")(average)}, path)
    assert torch.equal(_loaded(path)[0], average["module.fc.weight"])
    assert torch.equal(_loaded(path, averaged=False)[0], raw["fc.weight"])


def test_weights_that_are_not_there_are_refused(tmp_path: Path, raw: StateDict, average: StateDict) -> None:
    path = tmp_path / "a.pth"
    torch.save(raw, path)
    with pytest.raises(InputError, match="hold no averaged weights; leave `averaged` out"):
        _loaded(path, averaged=True)
    torch.save({"ema": average}, path)
    with pytest.raises(InputError, match="hold averaged weights alone; leave `averaged` out"):
        _loaded(path, averaged=False)


def test_prefixes_that_somebodys_network_has_itself_stay(tmp_path: Path) -> None:
    torch.save({"model.weight": torch.zeros(7, 3), "model.bias": torch.zeros(7)}, tmp_path / "a.pth")
    member = Member(
        "a", weights=tmp_path / "a.pth", arch="python:test_checkpoints:Inner", input=InputFormat.imagenet()
    )
    assert "model.weight" in load_member(member, COUNT, trust_python=True).state_dict()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 7)


@pytest.mark.parametrize(
    ("arch", "width"),
    [
        *(("googlenet", width) for width in (1.0, 0.5, 0.25, 0.35, 0.1, TINY, 0.03, 1.5)),
        *itertools.product(["googlenet-paper", "googlenet-naive", "googlenet-paddle"], [1.0, 0.35]),
    ],
)
def test_names_and_shapes_say_architecture_and_width(arch: str, width: float) -> None:
    with torch.device("meta"):
        shapes = build(arch, 3, width=width).state_dict()
        assert architecture_of(shapes) == arch
        again = build(arch, 3, **options_of(shapes)).state_dict()
    assert {name: value.shape for name, value in again.items()} == {
        name: value.shape for name, value in shapes.items()
    }


def test_a_whole_width_and_a_round_one_are_said_as_they_were() -> None:
    with torch.device("meta"):
        assert options_of(build("googlenet", 3).state_dict()) == {}
        assert options_of(build("googlenet", 3, width=0.25).state_dict()) == {"width": 0.25}


def test_a_network_that_nobody_knows_needs_its_architecture(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 7).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match="of no architecture that is known; state `arch` and `input`"):
        Member("a", weights=tmp_path / "a.pth")
