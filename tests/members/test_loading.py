import threading

import pytest
import torch
from builders import CLASS_NAMES, tiny_network
from torch import nn

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.loading import load_member
from ensemble_eval.models.layers import fold_batch_norm

COUNT = len(CLASS_NAMES)


def _member(network: nn.Module) -> Member:
    return Member("a", network=network, input=InputFormat.imagenet())


def test_a_network_in_memory_stays_as_it_is_whatever_is_done_with_its_copy() -> None:
    network = tiny_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loaded = load_member(_member(network), COUNT)
    assert not any(module.training for module in loaded.modules())
    fold_batch_norm(loaded).half()
    assert all(module.training for module in network.modules())
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


def test_a_copy_predicts_what_the_network_does() -> None:
    network = tiny_network()
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_member(_member(network), COUNT)(pixels), network(pixels))


def test_a_network_in_half_precision_becomes_float32() -> None:
    loaded = load_member(_member(tiny_network().half()), COUNT)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    network = tiny_network()
    network.lock = threading.Lock()  # type: ignore[assignment]  # no tensor, as users' networks hold anything
    with pytest.raises(InputError, match=r"^member a: its network cannot be copied .*; give `predict`"):
        load_member(_member(network), COUNT)
