"""The examples in the package's docstrings run, and every name of the public API has one."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest
from pages import PROJECT

import ensemble_eval

EXAMPLES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PACKAGE = PROJECT / "ensemble_eval"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_examples_of_a_module_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an example writes goes there; converting networks for OpenVINO would take long.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    outcome = doctest.testmod(importlib.import_module(_name(path)), optionflags=EXAMPLES)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("name", ensemble_eval.__all__)
def test_every_name_of_the_public_api_is_described(name: str) -> None:
    described = getattr(ensemble_eval, name)
    assert described.__doc__
    assert described.__doc__.splitlines()[0].endswith(".")
    if not isinstance(described, type):
        assert ">>> " in described.__doc__, "an example"
