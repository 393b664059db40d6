import pytest
import torch

from ensemble_eval.errors import InputError
from ensemble_eval.launch.devices import choose_device, device_name


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu:one"])
def test_an_unknown_device_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(InputError, match=r"there is no device .*; choose auto, cpu, cuda or cuda:N"):
        choose_device(name)


@pytest.mark.parametrize("name", ["meta", "mps"])
def test_a_device_that_is_not_supported_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"devices of type {name} are not supported; choose auto, cpu, cuda"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_is_refused_where_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f'`device="{name}"`: this machine has no usable CUDA device'):
        choose_device(name)


def test_a_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match='`device="cuda:2"`: this machine has 2 CUDA devices, cuda:0 to cuda:1'):
        choose_device("cuda:2")
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_auto_takes_cuda_where_it_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda usable=usable: usable)
        assert choose_device("auto") == torch.device(expected)


def test_the_cpu_is_called_so() -> None:
    assert device_name(choose_device("cpu")) == "cpu"
