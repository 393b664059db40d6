import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import write_ensemble

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import ClassList, class_list
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.manifest import open_ensemble, write_manifest

MANIFEST = """
name = "googlenet-2"
classes = "imagenet-1k"

[[members]]
name = "a"
arch = "googlenet"
weights = "../checkpoints/a.safetensors"
options = { width = 1.5 }
input = { channels = "bgr", scale = 1, mean = [104, 117, 123.5], std = [1.0, 1.0, 2], transform_input = true }

[[members]]
name = "b"
arch = "python:package.module:callable"
weights = "/weights/b.pth"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
input = { channels = "rgb", scale = 255.0, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "ensemble.toml"
        path.write_text(text)
        return path

    return write


def test_a_manifest_becomes_an_ensemble(write: Callable[[str], Path]) -> None:
    path = write(MANIFEST)
    assert open_ensemble(path) == Ensemble(
        name="googlenet-2",
        classes=ClassList("imagenet-1k", 1000, None),
        members=(
            Member(
                name="a",
                arch="googlenet",
                weights=path.parent / "../checkpoints/a.safetensors",
                options={"width": 1.5},
                input=InputFormat("bgr", 1.0, (104.0, 117.0, 123.5), (1.0, 1.0, 2.0), transform_input=True),
            ),
            Member(
                name="b",
                arch="python:package.module:callable",
                weights=Path("/weights/b.pth"),
                sha256="0123456789abcdef" * 4,
            ),
        ),
        interpolation="bilinear",
    )


def test_what_is_written_is_read_back_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    classes = ClassList(str(tmp_path / "names.txt"), 2, ("ant", "bee"))
    weights = tmp_path / "weights" / "a.safetensors"
    options = {"width": 0.5, "dropout": 0.0}
    pixels = InputFormat("bgr", 1.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), transform_input=True)
    member = Member(
        "a", arch="googlenet", weights=weights, sha256="0123456789abcdef" * 4, options=options, input=pixels
    )
    plain = Member("b", arch="googlenet-paper", weights=weights)
    written = Ensemble((member, plain), classes, "two", "bicubic")
    path = tmp_path / "manifests" / "ensemble.toml"
    write_manifest(path, written)
    moved = path.parent / "../weights/a.safetensors"
    assert open_ensemble(path) == replace(
        written,
        classes=replace(classes, source=str(path.parent / "../names.txt")),
        members=(replace(member, weights=moved), replace(plain, weights=moved)),
    )


@pytest.mark.parametrize(
    ("members", "classes", "sentence"),
    [
        (
            [Member("a", predict=torch.sigmoid)],
            "imagenet-1k",
            "^member a is in memory and not in a file",
        ),
        (
            [Member("a", weights="a", arch="b")],
            ["ant", "bee"],
            "classes are in no text file; write",
        ),
    ],
)
def test_what_is_only_in_memory_has_no_manifest(
    tmp_path: Path, members: list[Member], classes: str | list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        write_manifest(tmp_path / "ensemble.toml", Ensemble(members, classes))
    assert not list(tmp_path.iterdir())


INPUT_LINE = (
    'input = { channels = "rgb", scale = 255.0, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }'
)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "googlenet-2"', "", "the field 'name' is missing; add it"),
        ('classes = "imagenet-1k"', "", "the field 'classes' is missing; add it"),
        ('arch = "googlenet"', "", "a.safetensors do not exist; check the path in the manifest"),
        ('weights = "/weights/b.pth"', "", "member 2: the field 'weights' is missing; add it"),
        (INPUT_LINE, "", "member 2: the weights /weights/b.pth do not exist"),
        ('channels = "bgr", ', "", "member 1, input: the field 'channels' is missing; add it"),
        ('name = "googlenet-2"', 'name = "x"\ncolour = 1', "unknown field 'colour'; remove it or fix its name"),
        ('name = "a"', 'name = "a"\nwidth = 2.0', "member 1: unknown field 'width'; remove it or fix its name"),
        ('channels = "bgr"', 'channels = "bgr", gamma = 1', "member 1, input: unknown field 'gamma'"),
        ('name = "a"', "name = 3", "member 1: name is a text, not 3"),
        ('name = "a"', 'name = ""', "member 1: name is a text, not ''"),
        ('name = "a"', 'name = "b"', "two members are named 'b'; give each its own name"),
        ('name = "a"', 'name = "ensemble"', "'ensemble' is kept for the ensemble's own rows"),
        ("width = 1.5 }", "width = 1.5", "is not valid TOML"),
        ("{ width = 1.5 }", "1.5", "member 1: options is a table, not 1.5"),
        ('channels = "bgr"', 'channels = "gray"', "member 1, input: channels is one of 'rgb', 'bgr', not 'gray'"),
        ("scale = 1,", "scale = 0,", "member 1, input: scale is a number above 0, not 0"),
        ("scale = 1,", "scale = true,", "member 1, input: scale is a number, not True"),
        ("std = [1.0, 1.0, 2]", "std = [1.0, 1.0, 0]", "member 1, input: std[2] is a number above 0, not 0"),
        ("std = [1.0, 1.0, 2]", "std = [1.0, 1.0]", "std is a list of 3 numbers, not [1.0, 1.0]"),
        ("mean = [104, 117, 123.5]", "mean = [104, nan, 1]", "mean[1] is a number, not nan"),
        ("mean = [104, 117, 123.5]", 'mean = "grey"', "mean is a list of 3 numbers, not 'grey'"),
        ("transform_input = true", "transform_input = 1", "transform_input is true or false, not 1"),
        ("0123456789abcdef0123456789abcdef", "0123", "`sha256` is 64 lower-case hexadecimal digits"),
        ('classes = "imagenet-1k"', 'classes = "no.txt"', "no.txt cannot be read (No such file or directory)"),
        ("classes =", 'interpolation = "nearest"\nclasses =', "interpolation is one of 'bilinear', 'bicubic'"),
        ("[[members]]", "[[member]]", "the field 'members' is missing; add it"),
    ],
)  # fmt: skip
def test_a_manifest_with_a_fault_is_refused_and_the_place_named(
    write: Callable[[str], Path], old: str, new: str, sentence: str
) -> None:
    assert old in MANIFEST
    path = write(MANIFEST.replace(old, new))
    with pytest.raises(InputError) as refusal:
        open_ensemble(path)
    assert sentence in str(refusal.value)
    assert str(path.parent) in str(refusal.value)


@pytest.mark.parametrize(
    ("members", "sentence"), [("members = []", "has no members"), ("members = 3", "[[members]] tables")]
)
def test_an_ensemble_without_members_is_refused(write: Callable[[str], Path], members: str, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        open_ensemble(write(f'name = "none"\nclasses = "imagenet-1k"\n{members}\n'))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "cannot be read (No such file or directory); check the path"),
        (b"\xff\xfe\x00", "is not UTF-8 text; is it the right file?"),
        (b"# " + b"x" * (1 << 20), "is larger than 1048576 bytes; is it the right file?"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, data: bytes | None, sentence: str) -> None:
    path = tmp_path / "ensemble.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as refusal:
        open_ensemble(path)
    assert str(refusal.value) == f"{path} {sentence}"


def test_a_named_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ensemble.toml")
    with pytest.raises(InputError, match=r"cannot be read \(it is a named pipe, not a file\); check the path"):
        open_ensemble(tmp_path / "ensemble.toml")


def test_class_lists_have_one_name_per_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("großer Hund\r\ncat\r\n".encode())
    expected = ClassList(str(tmp_path / "names.txt"), 2, ("großer Hund", "cat"))
    assert class_list("names.txt", tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "one class per line and no empty line"),
        ("ant\n\nbee\n", "one class per line and no empty line"),
        ("ant\nbee\nant\n", "classes appear twice: ant"),
    ],
)
def test_a_faulty_class_list_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(InputError, match=sentence):
        class_list("names.txt", tmp_path)


def test_a_manifest_with_outputs_and_averages_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("-\nant\nbee\n")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    weights = tmp_path / "weights" / "a.pth"
    members = [
        Member("a", arch="googlenet", weights=weights, outputs=tmp_path / "order.txt", renormalise=True),
        Member("b", arch="googlenet", weights=weights, outputs="background-first", averaged=False),
    ]
    path = tmp_path / "ensemble.toml"
    write_manifest(path, Ensemble(members, tmp_path / "classes.txt"))
    assert 'outputs = "order.txt"' in path.read_text()
    again = open_ensemble(path).members
    assert [member.outputs for member in again] == [tmp_path / "order.txt", "background-first"]
    assert [(member.renormalise, member.averaged) for member in again] == [(True, None), (False, False)]


def test_weights_that_describe_themselves_are_of_the_manifests_classes(tmp_path: Path) -> None:
    manifest = write_ensemble(tmp_path, 1)
    entry = '[[members]]\nname = "a"\nweights = "a.safetensors"\n'
    manifest.write_text(f'name = "m"\nclasses = "classes.txt"\n{entry}')
    assert open_ensemble(manifest).members[0].arch == "googlenet"
    names = (tmp_path / "classes.txt").read_text().splitlines()
    (tmp_path / "classes.txt").write_text("\n".join(reversed(names)))
    with pytest.raises(
        InputError, match=r"member a: the weights .* are of other classes than .*, or of them in another"
    ):
        open_ensemble(manifest)
