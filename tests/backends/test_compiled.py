import importlib.util
import shutil
import sysconfig
from collections.abc import Collection
from pathlib import Path

import pytest
import torch

from ensemble_eval.backends.opening import choose_backend
from ensemble_eval.backends.torch import missing_for_compiler
from ensemble_eval.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def _machine(
    monkeypatch: pytest.MonkeyPatch, include: Path, programs: Collection[str] = ("gcc",), *, triton: bool = True
) -> None:
    """One with these programs, and headers where there are some."""
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if triton or name != "triton" else None)
    monkeypatch.setattr(sysconfig, "get_paths", lambda _scheme: {"include": str(include)})


@pytest.fixture
def include(tmp_path: Path) -> Path:
    (tmp_path / "Python.h").touch()
    return tmp_path


@pytest.mark.parametrize("programs", [("gcc",), ("clang",), ("gcc", "c++")])
def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, include: Path, programs: Collection[str]) -> None:
    _machine(monkeypatch, include, programs)
    assert missing_for_compiler(CUDA) is None
    assert choose_backend("compiled", CUDA) == "compiled"


def test_triton_does_not_look_for_cc_as_make_does(monkeypatch: pytest.MonkeyPatch, include: Path) -> None:
    _machine(monkeypatch, include, ["cc"])
    with pytest.raises(InputError, match=r"needs a C compiler, and there is neither gcc nor clang; install one"):
        choose_backend("compiled", CUDA)
    monkeypatch.setenv("CC", "cc")
    assert missing_for_compiler(CUDA) is None


def test_what_cc_names_must_be_there(monkeypatch: pytest.MonkeyPatch, include: Path) -> None:
    _machine(monkeypatch, include, ["gcc"])
    monkeypatch.setenv("CC", "icx")
    with pytest.raises(InputError, match=r"CC names 'icx', which is not there; correct or unset CC"):
        choose_backend("compiled", CUDA)


def test_pythons_headers_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _machine(monkeypatch, tmp_path)
    with pytest.raises(InputError, match=r"Python's headers, and .*Python\.h is not there; install python3-dev"):
        choose_backend("compiled", CUDA)


def test_triton_itself_is_needed_on_cuda_alone(monkeypatch: pytest.MonkeyPatch, include: Path) -> None:
    _machine(monkeypatch, include, ["gcc", "g++"], triton=False)
    with pytest.raises(InputError, match=r"the package triton, which is not installed; .*`backend=.torch.`"):
        choose_backend("compiled", CUDA)
    assert missing_for_compiler(CPU) is None


def test_on_a_cpu_it_is_a_compiler_for_cpp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _machine(monkeypatch, tmp_path, ["gcc"])
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and there is none; install g\+\+, or choose"):
        choose_backend("compiled", CPU)
    monkeypatch.setenv("CXX", "gcc")
    assert missing_for_compiler(CPU) is None


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_triton_finds_the_compiler_that_is_found_here(monkeypatch: pytest.MonkeyPatch, include: Path) -> None:
    """The order of its search may change: then the check must too."""
    from triton.runtime.build import _find_compiler  # type: ignore[import-untyped]  # Triton has no types

    for programs, found in ((("gcc", "clang"), "/usr/bin/gcc"), (("clang",), "/usr/bin/clang")):
        _machine(monkeypatch, include, programs)
        assert _find_compiler.__wrapped__("c") == found
    _machine(monkeypatch, include, ["cc"])
    with pytest.raises(RuntimeError, match="Failed to find C compiler"):
        _find_compiler.__wrapped__("c")
