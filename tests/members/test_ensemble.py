import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat

NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
IMAGENET = InputFormat.imagenet()


def _probabilities(crops: Tensor) -> Tensor:
    return torch.softmax(crops.float().mean(dim=(2, 3)), dim=1)


def test_a_member_is_a_file_or_a_network_or_a_function() -> None:
    file = Member("a", weights="a.pth", arch="googlenet")
    network = Member("b", network=NETWORK, input=IMAGENET)
    function = Member("c", predict=_probabilities, fingerprint="version 1")
    assert (file.weights, file.arch, file.input) == (Path("a.pth"), "googlenet", IMAGENET)
    assert (network.weights, network.network, network.input) == (None, NETWORK, IMAGENET)
    assert network.arch == "memory:torch.nn.modules.container.Sequential"
    assert (function.predict, function.arch, function.fingerprint) == (
        _probabilities,
        "predict",
        "version 1",
    )
    assert function.input == InputFormat(scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "member",
    [
        Member("a", weights="a.pth", arch="googlenet", options={"width": 0.5}, sha256="0" * 64),
        Member("a", network=NETWORK, input=IMAGENET),
        Member("a", predict=_probabilities, fingerprint="1"),
    ],
    ids=["file", "network", "function"],
)
def test_a_member_can_be_renamed(member: Member) -> None:
    assert replace(replace(member, name="z"), name="a") == member


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "there is nothing to predict with; give `weights` and `arch`, `network`, or `predict`"),
        (
            {"weights": "a.pth", "arch": "googlenet", "network": NETWORK},
            "`weights` and `network` exclude each other; give one of them",
        ),
        ({"network": NETWORK, "predict": _probabilities}, "`network` and `predict` exclude each other"),
        ({"weights": "a.pth"}, "the weights a.pth do not exist"),
        ({"weights": "a.pth", "arch": "googlenet", "sha256": "0" * 63}, "`sha256` is 64 lower-case hexadecimal"),
        (
            {"weights": "a.pth", "arch": "googlenet", "fingerprint": "1"},
            "`fingerprint` does not go with `weights`",
        ),
        ({"network": NETWORK}, "`network` needs `input`, such as `input=InputFormat.imagenet()`; add it"),
        (
            {"network": NETWORK, "input": IMAGENET, "arch": "googlenet"},
            "`arch` does not go with `network`; leave it out",
        ),
        ({"network": NETWORK, "input": IMAGENET, "options": {"width": 1}}, "`options` does not go with `network`"),
        ({"network": NETWORK, "input": IMAGENET, "sha256": "0" * 64}, "`sha256` does not go with `network`"),
        ({"network": NETWORK, "input": IMAGENET, "fingerprint": "1"}, "`fingerprint` does not go with `network`"),
        ({"network": _probabilities, "input": IMAGENET}, "`network` is a torch.nn.Module, not function"),
        ({"network": nn.Linear, "input": IMAGENET}, "`network` is a torch.nn.Module, not type"),
        ({"predict": "model"}, "`predict` is a function, not str"),
        ({"predict": _probabilities, "fingerprint": 3}, "`fingerprint` is a text, not 3"),
        ({"predict": _probabilities, "fingerprint": ""}, "`fingerprint` is a text, not ''"),
        ({"predict": _probabilities, "arch": "googlenet"}, "`arch` does not go with `predict`"),
        ({"predict": _probabilities, "input": IMAGENET}, "`input` does not go with `predict`"),
    ],
)
def test_a_member_that_contradicts_itself_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        Member("a", **arguments)
    assert str(refusal.value).startswith(f"member a: {sentence}")


@pytest.mark.parametrize("name", ["", 3])
def test_a_member_has_a_name(name: Any) -> None:
    with pytest.raises(InputError, match="a member's name is a text, not"):
        Member(name, weights="a.pth", arch="googlenet")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"scale": 0}, "scale is a number above 0, not 0"),
        ({"std": (1.0, 0.0, 1.0)}, r"std\[1\] is a number above 0, not 0.0"),
        ({"mean": 0.5}, "mean is a list of 3 numbers, not 0.5"),
        ({"mean": (0.5, float("nan"), 0.5)}, r"mean\[1\] is a number, not nan"),
        ({"channels": "RGB"}, "channels is one of 'rgb', 'bgr', not 'RGB'"),
    ],
)
def test_an_impossible_input_format_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^an InputFormat: {sentence}$"):
        InputFormat(**arguments)


def test_an_input_format_from_lists_and_numpy_is_the_same_as_from_a_manifest() -> None:
    import numpy as np

    mean: Any = [1, np.float32(2), 3.5]
    assert InputFormat(mean=mean) == InputFormat(mean=(1.0, 2.0, 3.5))
    assert len({InputFormat(mean=mean), InputFormat(mean=(1.0, 2.0, 3.5))}) == 1


def _members(*names: str) -> list[Member]:
    return [Member(name, network=NETWORK, input=IMAGENET) for name in names]


def test_an_ensemble_in_memory_has_its_members_in_order() -> None:
    ensemble = Ensemble(_members("b", "a"), ["ant", "bee"])
    assert [member.name for member in ensemble.members] == ["b", "a"]
    assert ensemble.classes.names == ("ant", "bee")
    assert (ensemble.name, ensemble.interpolation) == ("ensemble", "bilinear")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ensemble([], "imagenet-1k"), "the ensemble has no members; add at least one"),
        (
            lambda: Ensemble(_members("a", "b", "a"), "imagenet-1k"),
            "two members are named 'a'; give each",
        ),
        (lambda: Ensemble(_members("ensemble"), "imagenet-1k"), "'ensemble' is kept for the ensemble's own rows"),
        (lambda: Ensemble(_members("a"), []), "a class list has one class per line and no empty line"),
        (lambda: Ensemble(_members("a"), ["ant", ""]), "`classes`: a class list has one class per line"),
        (lambda: Ensemble(_members("a"), ["ant", "ant"]), "`classes`: classes appear twice: ant"),
        (lambda: Ensemble(_members("a"), "imagenet"), r"imagenet cannot be read \(No such file or directory\)"),
    ],
)
def test_an_impossible_ensemble_is_refused(make: Callable[[], Ensemble], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"members": [NETWORK]}, r'`members\[0\]` is a Member, such as Member\("a", network=.*, not Sequential\('),
        ({"members": NETWORK[1]}, r"`members` is a list of members, not Linear\("),
        ({"classes": 7}, '`classes` is "imagenet-1k", a list of names, or the path of a file of names, not 7'),
        ({"name": 3}, "`name` is a text, not 3"),
    ],
)
def test_what_an_ensemble_does_not_take_is_refused_with_what_to_write(
    changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Ensemble(**{"members": _members("a"), "classes": ["ant", "bee"], **changed})


def test_another_interpolation_is_refused() -> None:
    nearest: Any = "nearest"
    with pytest.raises(InputError, match="`interpolation` is one of 'bilinear', 'bicubic', not 'nearest'"):
        Ensemble(_members("a"), "imagenet-1k", interpolation=nearest)


def test_classes_are_imagenets_or_a_file_or_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("ant\nbee\n")
    from_file = ClassList(str(path), 2, ("ant", "bee"))
    assert class_list("imagenet-1k") == ClassList("imagenet-1k", 1000, None)
    assert class_list(path) == class_list(str(path)) == class_list("names.txt", tmp_path) == from_file
    assert class_list(from_file) is from_file
    assert class_list(("ant", "bee")).names == from_file.names


def test_what_an_ensemble_is_needs_no_torch() -> None:
    program = (
        "import sys; from ensemble_eval.members.ensemble import Ensemble, Member; "
        "import ensemble_eval.members.manifest; Ensemble([Member('a', weights='a', arch='b')], 'imagenet-1k'); "
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
