"""The pages' Python runs as it stands, in a folder with a small ensemble and a small data set."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from builders import write_dataset, write_ensemble
from conftest import CUDA_IS_PRETENDED
from pages import PAGES, blocks, name_of
from torch import nn

WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


def _stand_in_for_timm() -> ModuleType:
    """What the guide uses of timm: a network of 1000 classes that carries its preprocessing."""

    def create_model(_name: str, *, pretrained: bool) -> nn.Module:
        assert pretrained
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
        stated = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": (3, 224, 224)}
        network.__dict__["pretrained_cfg"] = stated
        return network

    module = ModuleType("timm")
    module.__dict__["create_model"] = create_model
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages call `mine.toml` and `val/`; converting networks for OpenVINO would take long."""
    write_ensemble(tmp_path, 7).rename(tmp_path / "mine.toml")
    write_dataset(tmp_path / "val", [(64, 64), (60, 60)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "timm", _stand_in_for_timm())
    return tmp_path


def test_the_pages_with_python_are_found() -> None:
    assert {name_of(page) for page in WITH_PYTHON} >= {"README.md", "docs/python.md"}


@pytest.mark.slow
@pytest.mark.skipif(bool(CUDA_IS_PRETENDED), reason="the pages take the device that is there")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_blocks_of_a_page_run_one_after_the_other(page: Path, folder: Path) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            # With its own line numbers, so that a failure points into the page.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, name_of(page), "exec"), names)
    assert (folder / "results" / "table3.csv").is_file()
