import subprocess
import sys
from pathlib import Path

import pytest
from builders import CLASS_NAMES, CLASSES, tiny_network, write_ensemble
from safetensors.torch import save_file

from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import ClassList
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.manifest import open_ensemble, save_weights


def test_a_folder_of_checkpoints_is_the_ensemble_that_its_files_describe(tmp_path: Path) -> None:
    manifest = open_ensemble(write_ensemble(tmp_path, members=3))
    folder = open_ensemble(tmp_path)
    assert [member.name for member in folder.members] == ["a", "b", "c"]
    assert folder.members == manifest.members
    assert folder.classes.names == CLASS_NAMES
    assert folder.name == tmp_path.name


def test_a_member_keeps_everything_that_its_file_says(tmp_path: Path) -> None:
    odd = InputFormat("bgr", 1.0, (104.0, 117.0, 123.0), (1.0, 2.0, 3.0), transform_input=True)
    path = tmp_path / "x.safetensors"
    member = Member("x", weights=path, arch="googlenet-paper", options={"width": 0.05}, input=odd)
    save_weights(path, tiny_network("googlenet-paper").state_dict(), member, CLASSES)
    assert open_ensemble(tmp_path).members == (member,)


def test_the_first_models_are_used(tmp_path: Path) -> None:
    assert [member.name for member in open_ensemble(write_ensemble(tmp_path, 3), 2).members] == ["a", "b"]


@pytest.mark.parametrize("models", [-1, 0, 4])
def test_an_impossible_number_of_models_is_refused(tmp_path: Path, models: int) -> None:
    path = write_ensemble(tmp_path, members=3)
    with pytest.raises(InputError, match=f"^{models} models were asked for and .* choose `models` from 1 to 3$"):
        open_ensemble(path, models)


def test_checkpoints_of_different_classes_are_no_ensemble(tmp_path: Path) -> None:
    write_ensemble(tmp_path, members=1)
    others = ClassList("other.txt", 7, tuple("tuvwxyz"))
    path = tmp_path / "z.safetensors"
    member = Member("z", arch="googlenet", weights=path, options={"width": 0.05})
    save_weights(path, tiny_network().state_dict(), member, others)
    with pytest.raises(InputError, match=r"z\.safetensors and .*a\.safetensors have different classes"):
        open_ensemble(tmp_path)


def test_a_checkpoint_that_does_not_describe_itself_is_refused(tmp_path: Path) -> None:
    save_file(tiny_network().state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"bare\.safetensors does not say what network"):
        open_ensemble(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.safetensors files"):
        open_ensemble(tmp_path)


def test_names_that_are_given_twice_are_refused_in_a_folder_too(tmp_path: Path) -> None:
    write_ensemble(tmp_path, members=1)
    (tmp_path / "copy.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(InputError, match="two members are named 'a'"):
        open_ensemble(tmp_path)


def test_an_ensemble_is_what_its_manifest_says(tmp_path: Path) -> None:
    ensemble = open_ensemble(write_ensemble(tmp_path, members=1))
    expected = Member("a", arch="googlenet", weights=tmp_path / "a.safetensors", options={"width": 0.05})
    classes = ClassList(str(tmp_path / "classes.txt"), 7, CLASS_NAMES)
    assert ensemble == Ensemble([expected], classes, "tiny")


def test_opening_an_ensemble_needs_no_torch(tmp_path: Path) -> None:
    path = write_ensemble(tmp_path, members=1)
    program = (
        "import sys; from ensemble_eval.members.manifest import open_ensemble; "
        f"open_ensemble({str(path)!r}); open_ensemble({str(tmp_path)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
