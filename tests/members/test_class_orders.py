"""Which output of a member stands for which class."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CLASSES, tiny_network
from dataset_layouts import CLASSES as KIT_CLASSES
from dataset_layouts import DEVKIT_ORDER, write_devkit
from torch import Tensor

from ensemble_eval.backends.network import SelectedOutputs
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import WNIDS, ClassList, OutputSelection, class_list, output_selection
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.fingerprints import member_sha256
from ensemble_eval.members.imported import InputFormat

IMAGENET = class_list("imagenet-1k")


def _member(outputs: str | Path | None, *, renormalise: bool | None = None) -> Member:
    return Member(
        "a",
        network=tiny_network(),
        input=InputFormat.imagenet(),
        outputs=outputs,
        renormalise=renormalise,
    )


def _selection(member: Member, classes: ClassList) -> OutputSelection | None:
    return output_selection(member.outputs, classes, renormalise=member.renormalise, member=member.name)


def _table(folder: Path, *lines: str) -> Path:
    (folder / "table.txt").write_text("\n".join(lines) + "\n")
    return folder / "table.txt"


def _refusal(member: Member, classes: ClassList = CLASSES) -> str:
    with pytest.raises(InputError) as refusal:
        _selection(member, classes)
    return str(refusal.value)


def test_outputs_are_the_classes_unless_stated() -> None:
    assert _selection(_member(None), CLASSES) is None


def test_the_first_of_1001_outputs_is_left_out() -> None:
    selection = _selection(_member("background-first"), IMAGENET)
    assert selection is not None
    assert selection.num_outputs == 1001
    assert selection.indices == tuple(range(1, 1001))


def test_a_table_of_wnids_in_any_order_with_outputs_of_no_class(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permutation(1000)
    lines = ["-", *(f"{WNIDS[index]} some words" for index in shuffled), *["-"] * 7]
    selection = _selection(_member(_table(tmp_path, *lines)), IMAGENET)
    assert selection is not None
    assert selection.num_outputs == 1008
    assert all(lines[output].split()[0] == wnid for output, wnid in zip(selection.indices, WNIDS, strict=True))


def test_a_table_of_names_may_know_more_classes_than_the_ensemble(tmp_path: Path) -> None:
    lines = ("zebra", *reversed(CLASSES.names or ()), "yak")
    selection = _selection(_member(_table(tmp_path, *lines)), CLASSES)
    assert selection is not None
    assert (selection.num_outputs, selection.indices) == (9, (7, 6, 5, 4, 3, 2, 1))


def test_the_development_kits_own_table_says_its_order(tmp_path: Path) -> None:
    meta = write_devkit(tmp_path / "kit", [0]) / "data" / "meta.mat"
    selection = _selection(_member(meta), class_list(KIT_CLASSES))
    assert selection is not None
    assert selection.num_outputs == len(KIT_CLASSES)
    assert [DEVKIT_ORDER[output] for output in selection.indices] == list(range(len(KIT_CLASSES)))
    meta.write_bytes(meta.read_bytes()[:200])
    assert "meta.mat is damaged, or of another kit" in _refusal(_member(meta))


def test_tables_that_leave_a_doubt_are_refused(tmp_path: Path) -> None:
    names = CLASSES.names or ()
    lacking = _refusal(_member(_table(tmp_path, *names[:-2])))
    assert lacking.endswith("has no output for 2 of the classes: fox, gnu")
    assert "names 'ant' twice" in _refusal(_member(_table(tmp_path, *names, "ant")))
    assert "no empty line" in _refusal(_member(_table(tmp_path, *names, "", "zebra")))
    others = (*WNIDS[:-1], "n99999999")
    assert "1000 WNIDs of imagenet-1k, all of them" in _refusal(_member(_table(tmp_path, *others)), IMAGENET)
    assert "`renormalise` goes with `outputs`" in _refusal(_member(None, renormalise=True))


@pytest.mark.parametrize("renormalised", [False, True])
def test_the_probability_of_no_class_is_left_out_and_the_rest_stays(renormalised: bool) -> None:
    member = _member("background-first", renormalise=renormalised)
    selection = _selection(member, ClassList("", 2, ("a", "b")))
    assert selection is not None

    def predict(crop_batch: Tensor) -> Tensor:
        return torch.tensor([[0.5, 0.125, 0.375]]).expand(len(crop_batch), 3)

    returned = SelectedOutputs(predict, selection, torch.device("cpu"))(torch.zeros(2, 3, 1, 1))
    expected = [0.25, 0.75] if renormalised else [0.125, 0.375]
    assert returned.tolist() == [expected, expected]


def test_a_run_knows_a_member_by_how_its_outputs_are_read(tmp_path: Path) -> None:
    weights = tmp_path / "a.pth"
    torch.save(tiny_network().state_dict(), weights)
    members = [
        Member("a", weights=weights),
        Member("a", weights=weights, outputs="background-first"),
        Member("a", weights=weights, outputs="background-first", renormalise=True),
        Member("a", weights=weights, outputs=_table(tmp_path, "ant", "bee")),
    ]
    assert len({member_sha256(member) for member in members}) == len(members)
    assert member_sha256(members[0]) == hashlib.sha256(weights.read_bytes()).hexdigest()
