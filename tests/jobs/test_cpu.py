"""The allocator and OpenMP's waiting are set by commands, whose process it is, and by no call of the library."""

import os
import platform
from pathlib import Path

import pytest
from builders import started
from conftest import Cli

from ensemble_eval.jobs import cpu
from ensemble_eval.settings import RunSettings


class _FakeC:
    """The C library as far as the allocator's settings go."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}

    def __call__(self, _name: str | None) -> "_FakeC":
        return self

    def mallopt(self, parameter: int, value: int) -> None:
        self.settings[parameter] = value


def _groups(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("memberships", "files", "processors"),
    [
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000\n", "job/cpu.max": "250000 100000\n"}, 2.5),
        ("0::/job\n", {"job/cpu.max": "400000 100000\n", "cpu.max": "50000 100000\n"}, 0.5),
        # As a container sees it whose own group is not mounted.
        ("0::/../elsewhere\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "5:cpu,cpuacct:/box\n3:memory:/box\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/box/cpu.cfs_period_us": "50000\n"},
            3.0,
        ),
        (
            "5:cpu,cpuacct:/box\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/box/cpu.cfs_period_us": "50000\n"},
            float("inf"),
        ),
        ("0::/job\n", {"job/cpu.max": "nonsense\n"}, float("inf")),
    ],
)
def test_the_quota_of_control_groups_is_that_of_the_tightest_around(
    tmp_path: Path, memberships: str, files: dict[str, str], processors: float
) -> None:
    (tmp_path / "cgroup").write_text(memberships)
    assert cpu.quota_processors(tmp_path / "cgroup", _groups(tmp_path / "fs", files)) == processors
    assert cpu.quota_processors(tmp_path / "missing", tmp_path) == float("inf")


@pytest.mark.parametrize(
    ("bound", "quota", "usable"), [(8, float("inf"), 8), (8, 2.9, 2), (8, 0.5, 1), (2, 64.0, 2)]
)
def test_usable_processors_are_those_bound_to_within_the_quota_and_ranks_share_them(
    monkeypatch: pytest.MonkeyPatch, bound: int, quota: float, usable: int
) -> None:
    monkeypatch.setattr(cpu, "bound_processors", lambda: bound)
    monkeypatch.setattr(cpu, "quota_processors", lambda: quota)
    assert cpu.usable_processors() == usable
    assert [cpu.default_loaders(ranks) for ranks in (1, 2, 64)] == [max(1, usable - 1), max(1, usable // 2 - 1), 1]
    assert cpu.default_loaders(64, in_bucket=True) == 4


def test_the_compiler_has_a_ranks_share_of_the_processors_and_at_most_32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "usable_processors", lambda: 96)
    for ranks, workers in ((1, "32"), (3, "32"), (4, "24"), (200, "1")):
        monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")
        monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
        cpu.limit_compile_workers(ranks)
        assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == workers
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "7")
    cpu.limit_compile_workers(1)
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "7"


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> _FakeC:
    fake = _FakeC()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("ctypes.CDLL", fake)
    # Set first, so that it is taken away again if it was not there.
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    return fake


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_command_keeps_freed_memory_and_waits_asleep(
    cli: Cli, libc: _FakeC, dataset: Path, ensemble: Path, tmp_path: Path, command: str
) -> None:
    finished = cli(command, dataset, "--ensemble", ensemble, "--crops", 1, "--device", "cpu", "--out", tmp_path)
    assert finished.code == 0, finished.err
    # The two parameters of glibc's malloc.h: from which size on blocks are mapped, and what is given back.
    assert libc.settings == {-3: 1 << 30, -1: 2**31 - 1}
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_a_library_does_not(libc: _FakeC, dataset: Path, ensemble: Path, tmp_path: Path) -> None:
    settings = RunSettings(
        dataset=dataset, ensemble=ensemble, out=tmp_path, crops=1, device="cpu", backend="torch"
    )
    assert len(list(started(settings).evaluate())) == 6
    assert libc.settings == {}
    assert "GOMP_SPINCOUNT" not in os.environ


def test_another_c_library_is_left_alone(libc: _FakeC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    cpu.keep_freed_memory()
    assert libc.settings == {}
