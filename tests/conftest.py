import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from buckets import bucket, proxy, server  # noqa: F401 (fixtures)
from builders import SHARED, write_dataset, write_ensemble
from hypothesis import settings

from ensemble_eval.cli import run_command_line

# Until all tests are collected, see below: importing makes hardly any garbage.
gc.disable()

# The machine may be busy, so no example is timed; the same examples every time, so no run is luckier.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")

# Converting a network for OpenVINO takes seconds, and most tests are not about what runs it. Subprocesses too.
for command in ("RUN", "CHECK"):
    os.environ[f"ENSEMBLE_EVAL_{command}_BACKEND"] = "torch"
# Expected results are a CPU's; tests of CUDA have a mark and name their device.
for command in ("RUN", "CHECK", "TRAIN", "DETECT", "DETECT_SVM"):
    os.environ[f"ENSEMBLE_EVAL_{command}_DEVICE"] = "cpu"

# So many CUDA devices are pretended to be there: what takes one unasked fails here as it would go astray there.
_PRETENDED_DEVICES = int(os.environ.get("PRETEND_CUDA", "0"))
CUDA_IS_THERE = torch.cuda.is_available()
# Why tests of torch's compiler are skipped then; empty if nothing is pretended.
CUDA_IS_PRETENDED = "torch's compiler asks the pretended devices what they are like" if _PRETENDED_DEVICES else ""
if _PRETENDED_DEVICES:
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: _PRETENDED_DEVICES

# Nothing in the home folder of whoever runs the tests.
_CACHE = tempfile.TemporaryDirectory(prefix="ensemble-eval-tests-")
os.environ["ENSEMBLE_EVAL_CACHE"] = _CACHE.name


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Finished]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests on a bucket start an S3 server."""
    if "server" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.processes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the photographs, skip what needs CUDA where there is none, and put long modules first."""
    for item in items:
        if item.get_closest_marker("cuda") and not CUDA_IS_THERE:
            item.add_marker(pytest.mark.skip(reason="this machine has no usable CUDA device"))
        if "photographs" in getattr(item, "fixturenames", ()):
            item.add_marker("photographs")
    # At the end, the other processes of `make test` would wait for them.
    longest = {
        item.path for item in items if item.get_closest_marker("slow") and item.get_closest_marker("processes")
    }
    items.sort(key=lambda item: item.path not in longest)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what collecting imported: it would look through all of torch again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_number_of_threads() -> Iterator[None]:
    """Give torch's threads back, which commands with several ranks reduce: last bits depend on their number."""
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture
def real_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices that are there, none pretended: code of torch's own asks them what they are like."""
    if _PRETENDED_DEVICES:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: CUDA_IS_THERE)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `ensemble-eval` with some arguments in this process."""

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["ensemble-eval", *map(str, arguments)])
        capsys.readouterr()
        return Finished(run_command_line(), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of two tiny GoogLeNets of seven classes; read only."""
    return write_ensemble(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in seven class folders; read only."""
    return write_dataset(tmp_path_factory.mktemp("dataset") / "val")


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The 200 real photographs, where they are; they are no part of the project."""
    paths = sorted((SHARED / "images" / "jpeg").glob("*.JPEG"))
    if not paths:
        pytest.skip(f"the photographs are not on this machine ({SHARED / 'images'})")
    return paths
