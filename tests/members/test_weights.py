import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import CLASS_NAMES, TINY, randomise, tiny_network
from safetensors.torch import save_file
from torch import Tensor

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.loading import load_member
from ensemble_eval.models.registry import build

COUNT = len(CLASS_NAMES)
StateDict = dict[str, Tensor]


@pytest.fixture(scope="module")
def state_dict() -> StateDict:
    return dict(tiny_network().state_dict())


def _member(weights: Path, **fields: Any) -> Member:
    return replace(Member("a", arch="googlenet", weights=weights, options={"width": TINY}), **fields)


def _refusal(member: Member, *, classes: int = COUNT, trust_python: bool = False) -> str:
    with pytest.raises(InputError) as refusal:
        load_member(member, classes, trust_python=trust_python)
    return str(refusal.value)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[object], Member]:
    """Save an object with torch and describe it as a member."""

    def save(content: object) -> Member:
        torch.save(content, tmp_path / "a.pth")
        return _member(tmp_path / "a.pth")

    return save


def _same(network: torch.nn.Module, state_dict: StateDict) -> bool:
    loaded = network.state_dict()
    return list(loaded) == list(state_dict) and all(torch.equal(loaded[key], state_dict[key]) for key in loaded)


def test_a_torch_file_loads_in_eval_mode(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    network = load_member(saved(state_dict), COUNT)
    assert _same(network, state_dict)
    assert not any(module.training for module in network.modules())


def test_safetensors_load_whatever_their_file_is_called(tmp_path: Path, state_dict: StateDict) -> None:
    save_file(state_dict, tmp_path / "weights.pth")
    assert _same(load_member(_member(tmp_path / "weights.pth"), COUNT), state_dict)


def test_an_old_torch_file_loads(tmp_path: Path, state_dict: StateDict) -> None:
    torch.save(state_dict, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert _same(load_member(_member(tmp_path / "a.pth"), COUNT), state_dict)


def test_weights_with_auxiliary_heads_load_and_those_without_do_too(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    with_heads = randomise(build("googlenet", COUNT, width=TINY, auxiliary_heads=True), seed=0).state_dict()
    assert any(key.startswith("aux1.") for key in with_heads)
    trunk = {key: value for key, value in with_heads.items() if not key.startswith("aux")}
    assert _same(load_member(saved(with_heads), COUNT), trunk)
    assert _same(load_member(saved(state_dict), COUNT), state_dict)


def test_half_precision_weights_become_float32(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    halved = {key: value.half() if value.is_floating_point() else value for key, value in state_dict.items()}
    loaded = load_member(saved(halved), COUNT).state_dict()
    assert loaded["fc.weight"].dtype == torch.float32
    torch.testing.assert_close(loaded["fc.weight"], state_dict["fc.weight"], rtol=1e-3, atol=1e-3)


def test_weights_from_elsewhere_may_lack_the_training_counters(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    converted = {key: value for key, value in state_dict.items() if not key.endswith("num_batches_tracked")}
    assert len(converted) < len(state_dict)
    assert _same(load_member(saved(converted), COUNT), state_dict)


def test_missing_keys_are_counted_and_named(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    lacking = {key: value for key, value in state_dict.items() if not key.startswith(("fc.", "conv2.bn."))}
    message = _refusal(saved(lacking))
    assert "lacks 6 of the keys of googlenet: conv2.bn.weight, conv2.bn.bias, conv2.bn.running_mean, …" in message
    assert message.startswith("member a: ")


def test_three_missing_keys_are_all_there_is_to_name(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    names = ("conv2.bn.weight", "conv2.bn.bias", "fc.bias")
    message = _refusal(saved({key: value for key, value in state_dict.items() if key not in names}))
    assert message.endswith("lacks 3 of the keys of googlenet: " + ", ".join(names) + "; check arch and options")


def test_unexpected_keys_are_counted_and_named(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    message = _refusal(saved(state_dict | {"fc.scale": torch.ones(1), "head.weight": torch.ones(1)}))
    assert "has 2 keys that googlenet does not have: fc.scale, head.weight; check arch and options" in message


def test_another_width_is_refused_with_both_shapes(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    member = saved(state_dict)
    message = _refusal(_member(member.weights_file, options={"width": 0.1}))
    assert "conv1.conv.weight has the shape (3, 3, 7, 7)" in message
    assert "needs (6, 3, 7, 7); check options and classes" in message


def test_another_class_count_is_refused_with_both_counts(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    message = _refusal(saved(state_dict), classes=1000)
    assert "have 7 outputs, and the ensemble's classes need 1000" in message


def test_the_other_architectures_weights_are_refused(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    member = saved(state_dict)
    assert "conv1.conv.bias" in _refusal(_member(member.weights_file, arch="googlenet-paper"))


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (torch.full((COUNT,), float("nan")), "fc.bias holds NaN or infinity"),
        (torch.full((COUNT,), float("inf")), "fc.bias holds NaN or infinity"),
        (
            torch.zeros(COUNT, dtype=torch.int64),
            "fc.bias holds torch.int64; convert it to torch.float32",
        ),
        (torch.zeros(COUNT, dtype=torch.complex64), "fc.bias holds torch.complex64"),
        (torch.zeros(COUNT, 1), "fc.bias has the shape (7, 1)"),
        (torch.zeros(COUNT, device="meta"), "not a plain state dict"),
        pytest.param(
            torch.ones(COUNT).to_sparse(),
            "not a plain state dict",
            marks=pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning"),
        ),
    ],
)
def test_a_spoilt_tensor_is_refused(
    saved: Callable[[object], Member], state_dict: StateDict, tensor: Tensor, sentence: str
) -> None:
    assert sentence in _refusal(saved(state_dict | {"fc.bias": tensor}))


def test_a_counter_of_another_shape_is_refused(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    spoilt = state_dict | {"conv1.bn.num_batches_tracked": torch.zeros(3, dtype=torch.int64)}
    assert "conv1.bn.num_batches_tracked has the shape (3,)" in _refusal(saved(spoilt))


def test_what_is_no_plain_state_dict_is_refused_and_described(
    saved: Callable[[object], Member], state_dict: StateDict
) -> None:
    assert "(its entries are epoch, losses)" in _refusal(saved({"epoch": 3, "losses": [0.5]}))
    assert "(it holds a list)" in _refusal(saved([1, 2]))
    assert "not a plain state dict" in _refusal(saved(state_dict | {1: torch.ones(1)}))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.pth", tmp_path):
        assert _refusal(_member(path)) == f"the weights {path} do not exist; check the path in the manifest"


@pytest.mark.parametrize("kept", [0, 5, 8, 100, 0.5, 0.999])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_truncated_weights_are_refused(tmp_path: Path, state_dict: StateDict, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save(state_dict, path)
    else:
        save_file(state_dict, path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    assert f"the weights {path} are damaged or truncated" in _refusal(_member(path))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damage_anywhere_in_a_torch_file_is_one_line_that_names_it_once(
    tmp_path: Path, zipped: bool, damage: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    refusals = []
    for position in range(0, len(data), 1 if damage == "flipped" else 5):
        flipped = bytes([data[position] ^ 0x55]) + data[position + 1 :]
        path.write_bytes(data[:position] + (flipped if damage == "flipped" else b""))
        try:
            read_weights(path)
        except InputError as error:
            refusals.append(str(error))
    # Some bytes are the tensor's own, and the checksums of a zip file are not looked at.
    assert len(refusals) > (100 if damage == "flipped" else len(data) / 5 - 1)
    assert all("\n" not in refusal and refusal.count(str(path)) == 1 for refusal in refusals)


@pytest.mark.parametrize("content", [b"<html>404 not found</html>", b"version https://git-lfs.github.com/spec/v1"])
def test_what_is_no_weights_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    message = _refusal(_member(tmp_path / "a.pth"))
    assert "weights_only" not in message, "torch's advice to load without protection must not be passed on"
    assert str(tmp_path / "a.pth") in message


def test_the_sha256_is_checked(saved: Callable[[object], Member], state_dict: StateDict) -> None:
    path = saved(state_dict).weights_file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    load_member(_member(path, sha256=digest), COUNT)
    message = _refusal(_member(path, sha256="0" * 64))
    assert message.startswith(f"the weights {path} have the SHA-256 {digest}, the manifest says {'0' * 64}")


class _Malicious:
    """Unpickles by creating a file: what an attacker's checkpoint would do with your account."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._marker}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(
    tmp_path: Path, state_dict: StateDict, new_format: bool
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    content = state_dict | {"fc.bias": _Malicious(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    message = _refusal(_member(path))
    assert not marker.exists()
    assert "nothing in them was run" in message
    assert "weights_only" not in message
    # The trap is a real one: pickle itself falls into it.
    pickle.loads(pickle.dumps(_Malicious(marker)))
    assert marker.exists()


def test_a_python_architecture_needs_trust(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "a.pth")
    options = {"in_features": 3, "out_features": 2}
    member = _member(tmp_path / "a.pth", arch="python:torch.nn:Linear", options=options)
    assert _refusal(member).endswith(
        "runs installed code (python:torch.nn:Linear); add `trust_python=True` if you trust it"
    )
    assert isinstance(load_member(member, COUNT, trust_python=True), torch.nn.Linear)
