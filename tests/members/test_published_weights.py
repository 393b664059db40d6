"""Weights by a published name, from the caches of torch and of the hub; nothing here needs a network."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from builders import CLASS_NAMES, tiny_network
from safetensors.torch import save_file

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.importers import published as publishers
from ensemble_eval.members.importers.published import published
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble
from ensemble_eval.models.registry import build

NAME = "torchvision:GoogLeNet_Weights.IMAGENET1K_V1"


def _manifest(folder: Path, weights: str) -> Path:
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))
    text = f'name = "m"\nclasses = "classes.txt"\n[[members]]\nname = "a"\nweights = "{weights}"\n'
    (folder / "m.toml").write_text(text)
    return folder / "m.toml"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_torchvisions_weights_come_from_torchs_cache(tmp_path: Path, hub: Path) -> None:
    weights = hub / torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(tiny_network().state_dict(), weights)
    [member] = open_ensemble(_manifest(tmp_path, NAME)).members
    assert (member.weights, member.arch) == (weights, "googlenet")


def test_torchvisions_own_file_is_recognised_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "renamed.pth"
    with torch.device("meta"):
        shapes = build("googlenet", 1000).state_dict()
    torch.save({name: torch.zeros(value.shape, dtype=value.dtype) for name, value in shapes.items()}, path)
    [member] = open_ensemble(_manifest(tmp_path, path.name)).members
    assert not member.input.transform_input
    # As if this file were the published one, whose name ends in the beginning of its SHA-256.
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(publishers.TORCHVISION, sha256[:8], "99%")
    [member] = open_ensemble(_manifest(tmp_path, path.name)).members
    assert member.input.transform_input


@pytest.mark.slow
@pytest.mark.parametrize("auxiliary_heads", [False, True])
def test_a_network_that_torchvision_saved_gives_torchvisions_logits(tmp_path: Path, auxiliary_heads: bool) -> None:
    theirs = torchvision.models.googlenet(num_classes=7, aux_logits=auxiliary_heads, init_weights=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    member = Member("a", weights=tmp_path / "a.pth")
    assert (member.arch, member.options) == ("googlenet", {})
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(load_member(member, 7)(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_what_is_known_of_torchvisions_files_is_what_torchvision_states() -> None:
    for weights in torchvision.models.GoogLeNet_Weights:
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        accuracy = f"{metrics['acc@1']}% top-1 and {metrics['acc@5']}% top-5 (torchvision:{weights})"
        beginning = weights.url.rpartition("-")[2].removesuffix(".pth")
        assert publishers.TORCHVISION[beginning] == accuracy


def test_without_cache_and_network_a_sentence_says_what_to_do(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        InputError, match=r"is not in torch's cache and cannot be fetched \(no route\); put googlenet"
    ):
        published(NAME)
    assert list(hub.iterdir()) == []


def test_unknown_names_are_refused_with_an_example_of_a_known_one() -> None:
    known = r"give a name such as GoogLeNet_Weights\."
    for name in ("V9", "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1", "R3D_18_Weights.KINETICS400_V1"):
        with pytest.raises(InputError, match=f"publishes no weights of a classifier '{name}' .*; {known}"):
            published(f"torchvision:{name}")
    with pytest.raises(InputError, match="is not of the form hf:OWNER/NAME"):
        published("hf:name")
    with pytest.raises(InputError, match=r"timm publishes no weights of that name|timm does not know it"):
        published("timm:googlenet")
    assert published("a.pth").weights == Path("a.pth")
    assert published("other:thing", Path("here")).weights == Path("here", "other:thing")


@pytest.mark.processes
@pytest.mark.parametrize("cached", [True, False])
def test_the_hubs_cache_serves_without_a_network(tmp_path: Path, cached: bool) -> None:
    repository = tmp_path / "models--owner--net"
    snapshot = repository / "snapshots" / ("0" * 40)
    if cached:
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        snapshot.mkdir(parents=True)
        save_file(tiny_network().state_dict(), snapshot / "model.safetensors")
    # The library reads its environment when it is imported.
    code = (
        "from ensemble_eval.members.importers.published import published; print(published('hf:owner/net').weights)"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    if cached:
        assert finished.stdout.strip() == str(snapshot / "model.safetensors")
    else:
        assert "InputError: hf:owner/net has none of model.safetensors, pytorch_model.bin" in finished.stderr


@pytest.mark.slow
def test_a_model_of_timm_is_built_by_timm_and_filled_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = timm.create_model("test_resnet", pretrained=False)
    path = tmp_path / "model.safetensors"
    save_file(theirs.state_dict(), path)
    asked = []

    def downloaded(repository: str) -> Path:
        asked.append(repository)
        return path

    monkeypatch.setattr(publishers, "from_hub", downloaded)
    (tmp_path / "m.toml").write_text(
        'name = "m"\nclasses = "imagenet-1k"\n[[members]]\nname = "a"\nweights = "timm:test_resnet.r160_in1k"\n'
    )
    [member] = open_ensemble(tmp_path / "m.toml").members
    assert asked == ["timm/test_resnet.r160_in1k"]
    assert (member.arch, member.input.mean) == ("timm:test_resnet.r160_in1k", (0.5, 0.5, 0.5))
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(load_member(member, 1000)(x), theirs.eval()(x))
