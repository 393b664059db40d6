"""Readers of files of weights, each loaded as a member of an ensemble and built, or run where it is a graph."""

import functools
import io
from collections.abc import Callable
from pathlib import Path

import torch
from runner import Target
from safetensors.torch import save

from ensemble_eval.backends.opening import PredictMaker
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import GRAPH, InputFormat
from ensemble_eval.members.loading import load_member
from ensemble_eval.models.registry import build
from ensemble_eval.settings import Backend

_FILES = Path(__file__).parents[1] / "interop" / "files"
# Two thousand over all formats.
_FILES_EACH = 143
# Reading a graph compiles it.
_MEBIBYTES = 4096
_SUFFIXES = (".caffemodel", ".tflite", ".pb", ".h5", ".onnx", ".pdparams", ".ckpt")


def _write(name: str, folder: Path) -> None:
    """A file as its framework wrote it; its values may lie in a second one, which is not mutated."""
    (folder / name).write_bytes((_FILES / name).read_bytes())
    for values in _FILES.glob(f"{Path(name).stem}.data-*"):
        (folder / values.name).write_bytes(values.read_bytes())


def _write_ours(folder: Path) -> None:
    (folder / "ours.safetensors").write_bytes(save(_tensors()))


def _write_torchs(folder: Path, *, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"model": _tensors(), "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
    (folder / "torch.pth").write_bytes(buffer.getvalue())


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build("googlenet", 7, width=0.03).state_dict())


def _load(folder: Path, name: str, backend: Backend = "openvino") -> None:
    torch.set_num_threads(1)
    member = Member("a", weights=folder / name, input=InputFormat.imagenet())
    if member.arch != GRAPH:
        load_member(member, 8 if member.outputs else 7)
        return
    make = PredictMaker(backend, 9 if member.options else 7, torch.device("cpu"), "float32")
    make.of_graph(member)(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))


def _target(
    name: str, write: Callable[[Path], None], backend: Backend = "openvino", title: str | None = None
) -> Target:
    return Target(
        f"weights {title or name}",
        _FILES_EACH,
        write,
        (name,),
        functools.partial(_load, name=name, backend=backend),
        mebibytes=_MEBIBYTES,
    )


_OF_FRAMEWORKS = sorted(
    path.name for path in _FILES.iterdir() if path.suffix in _SUFFIXES or path.suffix == ".index"
)

TARGETS = [
    *(_target(name, functools.partial(_write, name)) for name in _OF_FRAMEWORKS),
    _target("onnx.onnx", functools.partial(_write, "onnx.onnx"), "torch", "onnx.onnx on torch"),
    _target("torch.pth", functools.partial(_write_torchs, zipped=True)),
    _target("torch.pth", functools.partial(_write_torchs, zipped=False), title="torch.pth of old"),
    _target("ours.safetensors", _write_ours),
]
