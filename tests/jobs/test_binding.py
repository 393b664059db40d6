import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ensemble_eval.jobs import binding
from ensemble_eval.jobs.binding import bind, bind_beside, bind_rank, pci_address, processor_list, processors_beside
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.process import Process, Role

FIRST, SECOND = "0000:3b:00.0", "0001:af:00.0"
CUDA = torch.device("cuda", 1)
Machine = Callable[..., tuple[Path, Path]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine's sysfs: devices with their nodes, and nodes with their processors."""

    def write(devices: dict[str, str], nodes: dict[int, str]) -> tuple[Path, Path]:
        for address, node in devices.items():
            (tmp_path / "pci" / address).mkdir(parents=True)
            (tmp_path / "pci" / address / "numa_node").write_text(f"{node}\n")
        for number, processors in nodes.items():
            (tmp_path / "node" / f"node{number}").mkdir(parents=True)
            (tmp_path / "node" / f"node{number}" / "cpulist").write_text(f"{processors}\n")
        return tmp_path / "pci", tmp_path / "node"

    return write


def test_the_processors_of_the_devices_node(machine: Machine) -> None:
    trees = machine({FIRST: "0", SECOND: "1"}, {0: "0-3,8-11", 1: "4-7,12-15"})
    assert processors_beside(FIRST, *trees) == {0, 1, 2, 3, 8, 9, 10, 11}
    assert processors_beside(SECOND, *trees) == {4, 5, 6, 7, 12, 13, 14, 15}


@pytest.mark.parametrize(
    ("node", "nodes"),
    [
        pytest.param("-1", {0: "0-3", 1: "4-7"}, id="the machine does not say which"),
        pytest.param("0", {0: "0-7"}, id="one node"),
        pytest.param("2", {0: "0-3", 1: "4-7"}, id="a node that is not there"),
        pytest.param("none", {0: "0-3", 1: "4-7"}, id="no number"),
        pytest.param("1", {0: "0-7", 1: ""}, id="a node of memory alone"),
    ],
)
def test_there_are_none(machine: Machine, node: str, nodes: dict[int, str]) -> None:
    assert processors_beside(FIRST, *machine({FIRST: node}, nodes)) == frozenset()


def test_a_device_that_the_machine_does_not_list_has_none(machine: Machine) -> None:
    assert processors_beside(SECOND, *machine({FIRST: "0"}, {0: "0-3", 1: "4-7"})) == frozenset()


def test_lists_of_processors_as_linux_writes_them() -> None:
    assert processor_list("3\n") == {3}
    assert processor_list("\n") == frozenset()


def test_the_address_of_a_device_on_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(pci_domain_id=1, pci_bus_id=0xAF, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: there)
    assert pci_address(CUDA) == SECOND


@pytest.mark.cuda
def test_linux_lists_the_device() -> None:
    assert (Path("/sys/bus/pci/devices") / pci_address(torch.device("cuda", 0))).exists()


@pytest.fixture
def sixteen_processors(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> list[set[int]]:
    """A machine of two nodes, of which this process may use all; the sets to which it has bound itself."""
    bound = [set(range(16))]
    trees = machine({FIRST: "0", SECOND: "1"}, {0: "0-7", 1: "8-15"})
    monkeypatch.setattr(binding, "pci_address", lambda device: (FIRST, SECOND)[device.index])
    monkeypatch.setattr(binding, "processors_beside", lambda address: processors_beside(address, *trees))
    # Process 0 is the one that asks.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0: bound[-1]}[process])
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cpus: {0: bound}[process].append(set(cpus)))
    monkeypatch.setattr(binding, "usable_processors", lambda: len(bound[-1]))
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    return bound


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds processes to processors")


@linux
def test_a_rank_binds_itself_beside_its_gpu(sixteen_processors: list[set[int]]) -> None:
    assert bind_beside(CUDA) == set(range(8, 16))
    assert sixteen_processors[1:] == [set(range(8, 16))]
    assert bind_beside(CUDA) == set(range(8, 16))
    assert len(sixteen_processors) == 2


@linux
def test_a_rank_keeps_to_the_processors_of_its_job(sixteen_processors: list[set[int]]) -> None:
    sixteen_processors.append({6, 7, 8, 9})
    assert bind_beside(CUDA) == {8, 9}
    sixteen_processors.append({0, 1})
    assert bind_beside(CUDA) == {0, 1}
    assert sixteen_processors[-1] == {0, 1}


def test_on_a_cpu_nothing_is_bound(sixteen_processors: list[set[int]]) -> None:
    bind_beside(torch.device("cpu"))
    assert len(sixteen_processors) == 1


@linux
@pytest.mark.usefixtures("sixteen_processors")
def test_of_eight_ranks_on_two_nodes_four_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(3, 8, 3, "s", Role.RANK, sharing=8, local_world_size=8)
    assert bind_rank(process, torch.device("cpu")).sharing == 8
    assert bind_rank(process, CUDA).sharing == 4
    alone = Process(3, 8, 0, "s", Role.RANK, sharing=1, local_world_size=1)
    assert bind_rank(alone, CUDA) is alone
    on_its_own = replace(alone, local_world_size=2)
    assert bind_rank(on_its_own, CUDA).sharing == 1
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")


@pytest.mark.usefixtures("sixteen_processors")
def test_only_ranks_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Process()
    assert bind(alone, "cpu") is alone
    assert "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ
    bind(Process(1, 2, 1, "s", Role.RANK, sharing=2, local_world_size=2), "cpu")
    assert int(os.environ["TORCHINDUCTOR_COMPILE_THREADS"]) >= 1
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")


def test_compile_workers_are_divided_among_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    inductor = pytest.importorskip("torch._inductor.config")
    process = Process(0, 2, 0, "s", Role.WORKER, sharing=2, local_world_size=2)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    bind_rank(process, torch.device("cpu"))
    assert inductor.decide_compile_threads() == max(1, min(32, usable_processors() // 2))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "7")
    bind_rank(process, torch.device("cpu"))
    assert inductor.decide_compile_threads() == 7
