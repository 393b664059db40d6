"""Where weights come from: files that say how they want their pixels, and caches of publishers."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from builders import CLASS_NAMES, randomise, tiny_network
from huggingface_hub import errors

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import IMAGENET_1K, class_list
from ensemble_eval.members.converting import convert
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import BACKGROUND_FIRST, InputFormat
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.importers.published import from_hub, published
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.manifest import open_ensemble, read_member, save_weights
from ensemble_eval.models.registry import build

HDF5 = b"\x89HDF\r\n\x1a\n"


def _manifest(folder: Path, arch: str) -> Path:
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES))
    member = f'[[members]]\nname = "a"\narch = "{arch}"\nweights = "a.pth"\n'
    (folder / "m.toml").write_text(f'name = "m"\nclasses = "classes.txt"\n{member}')
    return folder / "m.toml"


def test_a_format_that_holds_one_set_of_weights_takes_no_choice_of_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(HDF5 + bytes(64))
    with pytest.raises(InputError, match="are of a format that holds one set of weights; leave `averaged` out"):
        read_weights(path, averaged=True)


def test_tensors_of_an_architecture_of_ours_may_leave_the_input_out(tmp_path: Path) -> None:
    torch.save(tiny_network().state_dict(), tmp_path / "a.pth")
    [member] = open_ensemble(_manifest(tmp_path, "googlenet")).members
    assert member.input == InputFormat.imagenet()


def test_tensors_of_an_unknown_architecture_may_not(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="do not say how their network wants its pixels; state `input`"):
        open_ensemble(_manifest(tmp_path, "python:somewhere:network"))


def test_a_repository_of_the_hub_gives_the_first_file_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if file != "c":
            raise errors.LocalEntryNotFoundError("it is not there")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert from_hub("owner/net@v2", ["a", "b", "c", "d"]) == tmp_path / "c"
    assert from_hub("owner/net", ["c"]) == tmp_path / "c"
    assert asked == [*(("owner/net", file, "v2") for file in "abc"), ("owner/net", "c", None)]


def test_torchs_cache_is_made_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "no" / "hub"))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda _url, path, **_: torch.save(tiny_network().state_dict(), path)
    )
    assert published("torchvision:GoogLeNet_Weights.IMAGENET1K_V1").weights.is_file()


@pytest.mark.parametrize(("classes", "count"), [(IMAGENET_1K, 1000), ("classes.txt", 7)])
def test_a_file_whose_first_output_has_no_class_is_converted_with_it(
    tmp_path: Path, classes: str, count: int
) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(CLASS_NAMES))
    network = randomise(build("googlenet", count + 1, width=0.05), 0)
    named = class_list(classes, tmp_path)
    path, narrow = tmp_path / "a.safetensors", {"width": 0.05}
    member = Member("a", weights=path, arch="googlenet", options=narrow, outputs=BACKGROUND_FIRST)
    save_weights(path, network.state_dict(), member, named)
    out = tmp_path / "b.safetensors"
    convert(path, out, classes=None if classes == IMAGENET_1K else tmp_path / classes)
    converted, listed = read_member(out)
    assert (converted.outputs, listed.count) == (BACKGROUND_FIRST, count)
    assert load_member(converted, count + 1).state_dict()["fc.weight"].shape[0] == count + 1
