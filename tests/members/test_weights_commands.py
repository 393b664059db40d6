"""`inspect` and `convert`, and that what `convert` writes is a full member."""

from pathlib import Path

import pytest
import torch
from builders import CLASS_NAMES, randomise, tiny_network
from conftest import Cli
from torch.optim.swa_utils import AveragedModel

from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.models.registry import build


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    content = {"model": tiny_network(seed=1).state_dict(), "model_ema": AveragedModel(tiny_network()).state_dict()}
    torch.save(content, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("\n".join(CLASS_NAMES))
    return tmp_path / "classes.txt"


def test_inspect_says_what_a_file_is(cli: Cli, checkpoint: Path) -> None:
    finished = cli("inspect", str(checkpoint))
    assert finished.code == 0
    lines = dict(line.split(maxsplit=1) for line in finished.out.splitlines())
    assert lines["format"] == "a file of torch.save"
    assert lines["architecture"].startswith("googlenet, width 0.0")
    assert lines["outputs"] == "7: the classes in their order"
    assert lines["input"] == "RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)"
    assert "the averaged are used" in lines["note"]
    assert lines["missing"].startswith("the preprocessing is not in the file; ImageNet's is taken")
    assert lines["entry"] == f'[[members]] name = "a", weights = "{checkpoint}"'
    assert "note" not in cli("inspect", "--raw", str(checkpoint)).out


def test_inspect_names_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    lacking = tiny_network().state_dict()
    del lacking["conv2.bn.bias"]
    torch.save(lacking, tmp_path / "a.pth")
    assert "lacks 1 of the keys of googlenet: conv2.bn.bias" in cli("inspect", str(tmp_path / "a.pth")).out
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b.pth")
    assert "the architecture is none that is known" in cli("inspect", str(tmp_path / "b.pth")).out


def test_what_convert_writes_is_a_full_member(cli: Cli, checkpoint: Path, classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours.safetensors"
    finished = cli("convert", str(checkpoint), str(out), "--classes", str(classes), "--raw")
    assert (finished.code, finished.err) == (0, "")
    manifest = tmp_path / "m.toml"
    entry = '[[members]]\nname = "a"\nweights = "ours.safetensors"\n'
    manifest.write_text(f'name = "m"\nclasses = "classes.txt"\n{entry}')
    [member] = open_ensemble(manifest).members
    network = load_member(member, len(CLASS_NAMES))
    assert torch.equal(network.state_dict()["fc.weight"], tiny_network(seed=1).state_dict()["fc.weight"])
    again = cli("convert", str(checkpoint), str(out), "--classes", str(classes))
    assert (again.code, again.err) == (2, f"error: {out} already exists; choose another OUT\n")
    assert "safetensors that describe themselves" in cli("inspect", str(out)).out


def test_a_thousand_outputs_are_imagenets(cli: Cli, tmp_path: Path) -> None:
    network = randomise(build("googlenet", 1000, width=0.03), seed=0)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert cli("convert", str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors")).code == 0


def test_another_number_of_outputs_needs_its_classes(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    finished = cli("convert", str(checkpoint), str(tmp_path / "b.safetensors"))
    assert finished.code == 2
    assert "has 7 outputs, which are not the 1000 classes of imagenet-1k; give --classes" in finished.err
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.slow
def test_a_run_says_which_of_two_sets_of_weights_it_uses(
    cli: Cli, checkpoint: Path, classes: Path, dataset: Path
) -> None:
    manifest = checkpoint.with_name("m.toml")
    entry = '[[members]]\nname = "a"\nweights = "a.pth"\n'
    manifest.write_text(f'name = "m"\nclasses = "{classes.name}"\n{entry}')
    options = ("--crops", "1", "--backend", "torch", "--device", "cpu", "--out", str(checkpoint.with_name("out")))
    finished = cli("run", "--ensemble", str(manifest), *options, str(dataset))
    assert finished.code == 0
    assert "warning: member a: the weights" in finished.err
    assert "hold raw and averaged weights; the averaged are used" in finished.err


def test_inspect_takes_no_preprocessing_for_a_graph(cli: Cli) -> None:
    files = Path(__file__).parents[1] / "interop" / "files"
    finished = cli("inspect", str(files / "onnx.onnx"))
    assert finished.code == 0
    assert "input         not known" in finished.out
    assert "state `input` in the manifest" in finished.out
