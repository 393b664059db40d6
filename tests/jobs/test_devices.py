import pytest
import torch

from ensemble_eval.errors import InputError
from ensemble_eval.jobs.devices import choose_device, device_name, device_of_rank, use_one_thread


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


@pytest.mark.parametrize(
    ("visible", "environment", "taken"),
    [
        pytest.param(4, {}, [0, 1, 2, 3], id="all devices are visible to each process"),
        pytest.param(4, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, [0, 1, 2, 3], id="some of them, by number"),
        pytest.param(4, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c,GPU-d"}, [0, 1, 2, 3], id="by UUID"),
        pytest.param(1, {"CUDA_VISIBLE_DEVICES": "2"}, [0, 0, 0, 0], id="to each its own"),
        pytest.param(1, {"CUDA_VISIBLE_DEVICES": "MIG-a"}, [0, 0, 0, 0], id="to each its own part"),
    ],
)
def test_each_of_four_processes_takes_a_device(
    monkeypatch: pytest.MonkeyPatch, visible: int, environment: dict[str, str], taken: list[int]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    devices = [device_of_rank("cuda", local_rank, 4, environment) for local_rank in range(4)]
    assert devices == [torch.device("cuda", index) for index in taken]


def test_more_processes_than_devices_are_refused_unless_they_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for visible, environment in ((1, {}), (2, {}), (2, {"CUDA_VISIBLE_DEVICES": "0,1"})):
        monkeypatch.setattr(torch.cuda, "device_count", lambda visible=visible: visible)
        with pytest.raises(InputError, match=f"4 processes were started.*they see {visible} CUDA devices"):
            device_of_rank("auto", 0, 4, environment)
        assert device_of_rank("cuda:0", 3, 4, environment) == torch.device("cuda:0")


@pytest.mark.parametrize(("hidden", "says"), [("", 'CUDA_VISIBLE_DEVICES=""'), (None, "device; choose")])
def test_hidden_devices_are_said_to_be_hidden(
    monkeypatch: pytest.MonkeyPatch, hidden: str | None, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(InputError, match=says):
        choose_device("cuda")


def test_a_rank_uses_one_thread_unless_another_number_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[int]()
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    use_one_thread()
    assert threads == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_one_thread()
    assert threads == [1]
