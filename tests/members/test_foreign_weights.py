"""Weights of other frameworks give the probabilities that those computed; `make interop` makes the files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import Preprocessing

FILES = Path(__file__).parents[1] / "interop" / "files"
TOLERANCE = 1e-4


def _ours(member: Member, blocks: NDArray[np.uint8], outputs: int) -> NDArray[np.float32]:
    crop_batch = torch.from_numpy(blocks.repeat(8, axis=2).repeat(8, axis=3))
    network = load_member(member, outputs)
    with torch.inference_mode():
        probabilities = torch.softmax(network(Preprocessing(member.input)(crop_batch)), dim=1)
    return probabilities.numpy()


@pytest.mark.parametrize(
    ("file", "arch", "channels", "outputs"),
    [
        ("caffe.caffemodel", "googlenet-paper", "bgr", None),
        ("caffe-old.caffemodel", "googlenet-paper", "bgr", None),
        ("keras.h5", "googlenet-tensorflow", "rgb", "background-first"),
    ],
)
def test_name_and_weights_alone_give_the_frameworks_probabilities(
    file: str, arch: str, channels: str, outputs: str | None
) -> None:
    theirs = np.load((FILES / file).with_suffix(".npz"))
    member = Member("a", weights=FILES / file)
    assert (member.arch, member.input.channels, member.outputs) == (arch, channels, outputs)
    expected = theirs["probabilities"]
    assert np.abs(expected[0] - expected[1]).max() > 0.02, "a network of one opinion would hide differences"
    ours = _ours(member, theirs["blocks"], expected.shape[1])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


def test_an_architecture_that_contradicts_the_format_is_refused() -> None:
    member = Member("a", weights=FILES / "caffe.caffemodel", arch="googlenet", options={"width": 0.06})
    with pytest.raises(
        InputError, match="whose architecture is googlenet-paper, and `arch` says googlenet; leave"
    ):
        load_member(member, 7)


def test_what_a_manifest_states_wins_and_is_said() -> None:
    stated = Member("a", weights=FILES / "caffe.caffemodel", arch="googlenet-paper", options={"width": 0.06})
    notes: list[str] = []
    load_member(stated, 7, tell=notes.append)
    [note] = notes
    assert note.startswith("member a: its weights want BGR from 0 to 255, minus (104, 117, 123)")
    assert "what is stated is used: RGB / 255" in note


def test_a_caffe_model_of_another_network_is_refused(tmp_path: Path) -> None:
    data = (
        (FILES / "caffe.caffemodel").read_bytes().replace(b"inception_4c/3x3_reduce", b"inception_4c/3x3_xxxxxx")
    )
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="without weights and biases of a layer inception_4c/3x3_reduce"):
        read_weights(tmp_path / "a")


@pytest.mark.parametrize("file", ["caffe.caffemodel", "caffe-old.caffemodel"])
def test_a_truncated_file_is_refused_in_one_sentence(tmp_path: Path, file: str) -> None:
    data = (FILES / file).read_bytes()
    for size in (10, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "a").write_bytes(data[:size])
        with pytest.raises(InputError) as refusal:
            read_weights(tmp_path / "a")
        assert "\n" not in str(refusal.value)
