"""The allocator and OpenMP's waiting are set by commands, whose process it is, and by no call of the library."""

import os
import platform
from pathlib import Path

import pytest
from builders import started
from conftest import Cli

from ensemble_eval.launch import cpu
from ensemble_eval.settings import RunSettings


class _FakeC:
    """The C library as far as the allocator's settings go."""

    def __init__(self) -> None:
        self.settings: dict[int, int] = {}

    def __call__(self, _name: str | None) -> "_FakeC":
        return self

    def mallopt(self, parameter: int, value: int) -> None:
        self.settings[parameter] = value


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
    settings = RunSettings(dataset=dataset, ensemble=ensemble, out=tmp_path, crops=1, backend="torch")
    assert len(list(started(settings).evaluate())) == 6
    assert libc.settings == {}
    assert "GOMP_SPINCOUNT" not in os.environ


def test_another_c_library_is_left_alone(libc: _FakeC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    cpu.keep_freed_memory()
    assert libc.settings == {}
