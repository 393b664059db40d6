import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.fingerprints import member_sha256, network_sha256
from ensemble_eval.members.imported import InputFormat


class Holder(nn.Module):
    """Holds a tensor of any kind."""

    def __init__(self, tensor: Tensor, name: str = "values", *, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer(name, tensor, persistent=persistent)


class OtherHolder(Holder):
    """Differs from its base in nothing but its name."""


def _member(network: nn.Module) -> Member:
    return Member("a", network=network, input=InputFormat.imagenet())


def _sha256(tensor: Tensor, *, persistent: bool = True) -> str:
    return network_sha256(Holder(tensor, persistent=persistent))


def test_equal_networks_have_one_fingerprint() -> None:
    assert member_sha256(_member(Holder(torch.arange(6.0)))) == member_sha256(_member(Holder(torch.arange(6.0))))


@pytest.mark.parametrize(
    "other",
    [
        Holder(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.000001])),
        Holder(torch.arange(6.0).reshape(2, 3)),
        Holder(torch.arange(6.0).double()),
        Holder(torch.arange(6.0), "others"),
        OtherHolder(torch.arange(6.0)),
    ],
    ids=["value", "shape", "dtype", "name", "class"],
)
def test_every_difference_shows(other: nn.Module) -> None:
    assert member_sha256(_member(other)) != member_sha256(_member(Holder(torch.arange(6.0))))


def test_a_tensor_counts_under_each_of_its_names() -> None:
    shared = nn.Linear(2, 3)
    copied = copy.deepcopy(shared)
    assert network_sha256(nn.Sequential(shared, shared)) == network_sha256(nn.Sequential(shared, copied))


def test_zeros_of_different_types_are_different_tensors() -> None:
    assert _sha256(torch.zeros(6)) != _sha256(torch.zeros(6, dtype=torch.int32))


def test_batch_norms_statistics_take_part() -> None:
    one, two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    assert network_sha256(one) == network_sha256(two)
    assert two.running_mean is not None
    two.running_mean[1] = 0.5
    assert network_sha256(one) != network_sha256(two)


def test_buffers_that_the_state_dict_leaves_out_take_part() -> None:
    assert _sha256(torch.zeros(2), persistent=False) != _sha256(torch.ones(2), persistent=False)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).to(torch.bfloat16),
        torch.arange(6).to(torch.float16),
        torch.arange(6) > 2,
        torch.arange(6).to(torch.complex64) * 1j,
        torch.zeros(0, 4),
        torch.tensor(3.0),
        nn.Parameter(torch.arange(6.0)),
    ],
    ids=["bfloat16", "float16", "bool", "complex", "empty", "scalar", "with gradient"],
)
def test_tensors_of_any_kind_have_a_fingerprint(tensor: Tensor) -> None:
    assert _sha256(tensor) == _sha256(tensor.detach().clone())
    if tensor.numel():
        assert _sha256(tensor) != _sha256(torch.zeros_like(tensor.detach()))


def test_how_a_tensor_lies_in_memory_makes_no_difference() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert _sha256(tensor) == _sha256(tensor.to(memory_format=torch.channels_last))
    assert _sha256(torch.arange(12.0)[::2]) == _sha256(torch.arange(12.0)[::2].clone())
    complex_tensor = torch.arange(6).to(torch.complex64) * (1 + 2j)
    assert _sha256(complex_tensor.conj()) == _sha256(complex_tensor.conj().resolve_conj())


@pytest.mark.cuda
def test_where_a_tensor_is_makes_no_difference() -> None:
    assert _sha256(torch.arange(6.0)) == _sha256(torch.arange(6.0, device="cuda"))


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (lambda: Holder(torch.eye(3).to_sparse()), "values is sparse and has no plain bytes; give `predict` and"),
        (lambda: Holder(torch.zeros(3, device="meta")), "values has no values yet; run the network once"),
        (lambda: nn.LazyLinear(3), "weight has no values yet|bias has no values yet"),
    ],
)
def test_a_network_without_plain_values_is_refused(network: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^member a: ({sentence})"):
        member_sha256(_member(network()))


def test_a_file_is_told_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    member = Member("a", weights=tmp_path / "a.pth", arch="googlenet")
    assert member_sha256(member) == hashlib.sha256(b"weights").hexdigest()


def test_a_function_is_told_by_its_fingerprint() -> None:
    one, same, two = (Member("a", predict=torch.sigmoid, fingerprint=text) for text in ("1", "1", "2"))
    assert member_sha256(one) == member_sha256(same) != member_sha256(two)
    with pytest.raises(InputError, match=r"^member a: a predict function has no weights .*; give `fingerprint`"):
        member_sha256(Member("a", predict=torch.sigmoid))
