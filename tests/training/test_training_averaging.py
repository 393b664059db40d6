import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ensemble_eval.training.trainer import IterateMean


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))


def test_bit_for_bit_torchs_own_its_state_too() -> None:
    torch.manual_seed(0)
    network = _network()
    ours, torchs = IterateMean(network), AveragedModel(network)
    for _ in range(7):
        for tensor in network.state_dict().values():
            tensor += torch.randn(tensor.shape).to(tensor.dtype)
        ours.update_parameters(network)
        torchs.update_parameters(network)
    one, other = ours.state_dict(), torchs.state_dict()
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    resumed = IterateMean(network)
    resumed.load_state_dict(torchs.state_dict())
    assert int(resumed.n_averaged) == 7


def test_taking_an_iterate_in_reads_nothing_from_the_device() -> None:
    """On torch's `meta` device there is nothing to be read: whoever tries, fails."""
    network = _network().to("meta")
    mean = IterateMean(network)
    for _ in range(3):
        mean.update_parameters(network)
    assert int(mean.n_averaged) == 3
