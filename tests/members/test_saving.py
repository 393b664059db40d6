import hashlib
import os
from pathlib import Path

import pytest
import torch
from builders import CLASSES, TINY, tiny_network
from safetensors import safe_open
from safetensors.torch import save_file

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.described import member_description, read_described, save_described
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.manifest import read_member, save_weights


def test_weights_carry_their_member_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b.safetensors"
    state_dict = tiny_network().state_dict()
    input_format = InputFormat("bgr", 1.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), transform_input=True)
    member = Member(
        "b",
        arch="googlenet",
        weights=path,
        sha256="0123456789abcdef" * 4,
        options={"width": TINY},
        input=input_format,
    )
    digest = save_weights(path, state_dict, member, CLASSES)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_member(path) == (member, ClassList(str(path), CLASSES.count, CLASSES.names))
    loaded = read_weights(path).tensors
    assert set(loaded) == set(state_dict)
    assert all(torch.equal(loaded[key], state_dict[key]) for key in loaded)


def test_imagenets_classes_are_written_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(
        path,
        {"x": torch.ones(2)},
        Member("a", arch="googlenet", weights=path),
        ClassList("imagenet-1k", 1000, None),
    )
    assert read_member(path)[1] == ClassList("imagenet-1k", 1000, None)
    with safe_open(path, framework="pt") as file:
        assert '"imagenet-1k"' in file.metadata()["ensemble_eval"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.safetensors"
    with pytest.raises(InputError, match="cannot be written"):
        save_weights(path, {"x": torch.ones(2)}, Member("a", arch="googlenet", weights=path), CLASSES)


@pytest.mark.timeout(20)
def test_a_named_pipe_as_weights_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors do not exist; check the path"):
        Member("a", weights=tmp_path / "a.safetensors")


def test_a_description_without_an_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    description = {"member": {"name": "a"}, "classes": "imagenet-1k"}
    save_described(path, {"x": torch.ones(2)}, description)
    with pytest.raises(InputError, match="of no architecture that is known; state `arch` and `input`"):
        read_member(path)


def test_a_named_pipe_among_checkpoints_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors is not a file; remove it, or name the weights"):
        read_member(tmp_path / "a.safetensors")


def _described(path: Path, classes: object, **member: object) -> Path:
    save_described(path, {"x": torch.ones(2)}, {"member": {"name": "a", **member}, "classes": classes})
    return path


def test_options_are_added_to_those_that_the_weights_state(tmp_path: Path) -> None:
    pixels = {"channels": "rgb", "scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    stated = {"arch": "googlenet", "options": {"width": 0.5, "batch_norm": True}, "input": pixels}
    path = _described(tmp_path / "a.safetensors", ["ant", "bee"], **stated)
    assert Member("b", weights=path).options == {"width": 0.5, "batch_norm": True}
    assert Member("b", weights=path, options={"width": 0.25}).options == {"width": 0.25, "batch_norm": True}


@pytest.mark.parametrize("classes", [[], "imagenet-21k", ["ant", 3], None, {"ant": 0}], ids=str)
def test_a_damaged_class_list_is_refused(tmp_path: Path, classes: object) -> None:
    path = _described(tmp_path / "a.safetensors", classes, arch="googlenet", input={})
    with pytest.raises(InputError, match=r"a\.safetensors: its class list is damaged; describe it in a manifest"):
        member_description(path)


def test_a_description_is_read_as_what_it_was_written_for(tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.safetensors", {"x": torch.ones(2)}
    save_described(path, tensors, {"width": 2}, "kind")
    found, description = read_described(path, "kind", "the file")
    assert (list(found), description) == (["x"], {"width": 2})
    assert read_described(path, "other", "the file") == ({}, {})
    save_described(path, tensors, [1], "kind")  # type: ignore[arg-type]  # as in a damaged file
    assert read_described(path, "kind", "the file") == ({}, {})
    save_file(tensors, path)
    assert read_described(path, "kind", "the file") == ({}, {})
