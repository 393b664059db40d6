"""Weights of other frameworks give the probabilities that those computed; `make interop` makes the files."""

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.importers import paddle
from ensemble_eval.members.importers.layouts import options_of
from ensemble_eval.members.importers.opening import read_weights
from ensemble_eval.members.importers.protocol_buffers import messages
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
        ("slim.pb", "googlenet-tensorflow", "rgb", "background-first"),
        ("slim-v1.ckpt", "googlenet-tensorflow", "rgb", "background-first"),
        ("slim-v2.ckpt.index", "googlenet-tensorflow", "rgb", "background-first"),
        ("paddle.pdparams", "googlenet-paddle", "rgb", None),
        ("paddle-2.pdparams", "googlenet-paddle", "rgb", None),
        ("keras.h5", "googlenet-tensorflow", "rgb", "background-first"),
    ],
)
def test_name_and_weights_alone_give_the_frameworks_probabilities(
    file: str, arch: str, channels: str, outputs: str | None
) -> None:
    theirs = np.load(FILES / f"{file.partition('.')[0]}.npz")
    member = Member("a", weights=FILES / file)
    assert (member.arch, member.input.channels, member.outputs) == (arch, channels, outputs)
    expected = theirs["probabilities"]
    assert np.abs(expected[0] - expected[1]).max() > 0.02, "a network of one opinion would hide differences"
    ours = _ours(member, theirs["blocks"], expected.shape[1])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("file", "arch"),
    [
        ("caffe.caffemodel", "googlenet-paper"),
        ("slim.pb", "googlenet-tensorflow"),
        ("slim-v1.ckpt", "googlenet-tensorflow"),
        ("slim-v2.ckpt.index", "googlenet-tensorflow"),
        ("keras.h5", "googlenet-tensorflow"),
        ("paddle.pdparams", "googlenet-paddle"),
    ],
)
def test_an_architecture_that_contradicts_the_format_is_refused(file: str, arch: str) -> None:
    member = Member("a", weights=FILES / file, arch="googlenet", options={"width": 0.06})
    with pytest.raises(InputError, match=f"whose architecture is {arch}, and `arch` says googlenet; leave"):
        load_member(member, 7)


def _classifiers_called(path: Path, *names: str) -> bytes:
    """A Caffe model whose classifier has these names: the first as it is, the others with a bias of their own."""
    net = messages("caffe", "a Caffe model")["Net"]()
    net.ParseFromString(path.read_bytes())
    layers = net.layer or net.layers
    [first] = [layer for layer in layers if layer.name == "loss3/classifier"]
    for number, name in enumerate(names[1:], 1):
        layers.add().CopyFrom(first)
        layers[-1].name = name
        layers[-1].blobs[1].data = np.full(len(first.blobs[1].data) // 4, number, "<f4").tobytes()
    first.name = names[0]
    data: bytes = net.SerializeToString()
    return data


@pytest.mark.parametrize("file", ["caffe.caffemodel", "caffe-old.caffemodel"])
@pytest.mark.parametrize(
    ("names", "is_read"),
    [
        (["loss3/classifier_birds"], True),
        (["loss3/classifier", "loss3/classifier_birds", "loss3/classifier_dogs"], True),
        (["loss3/classifier_birds", "loss3/classifier_dogs"], False),
        (["loss4/classifier"], False),
    ],
)
def test_a_renamed_classifier_of_a_caffe_model_is_read_where_there_is_no_other(
    tmp_path: Path, file: str, names: list[str], is_read: bool
) -> None:
    (tmp_path / "a").write_bytes(_classifiers_called(FILES / file, *names))
    if is_read:
        expected, found = read_weights(FILES / file).tensors, read_weights(tmp_path / "a").tensors
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    else:
        with pytest.raises(InputError, match="without weights and biases of a layer loss3/classifier; only bvlc"):
            read_weights(tmp_path / "a")


def test_what_a_manifest_states_wins_and_is_said() -> None:
    stated = Member("a", weights=FILES / "caffe.caffemodel", arch="googlenet-paper", options={"width": 0.06})
    notes: list[str] = []
    load_member(stated, 7, tell=notes.append)
    [note] = notes
    assert note.startswith("member a: its weights expect BGR from 0 to 255, minus (104, 117, 123)")
    assert "declared and used: RGB / 255" in note


def test_a_caffe_model_of_another_network_is_refused(tmp_path: Path) -> None:
    data = (
        (FILES / "caffe.caffemodel").read_bytes().replace(b"inception_4c/3x3_reduce", b"inception_4c/3x3_xxxxxx")
    )
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="without weights and biases of a layer inception_4c/3x3_reduce"):
        read_weights(tmp_path / "a")


@pytest.mark.parametrize(
    "file", ["caffe.caffemodel", "caffe-old.caffemodel", "keras.h5", "slim.pb", "slim-v1.ckpt", "paddle.pdparams"]
)
def test_a_truncated_file_is_refused_in_one_sentence(tmp_path: Path, file: str) -> None:
    data = (FILES / file).read_bytes()
    for size in (10, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "a").write_bytes(data[:size])
        with pytest.raises(InputError) as refusal:
            read_weights(tmp_path / "a")
        assert "\n" not in str(refusal.value)


class _Calls:
    """Pickles to a call of `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"_conv._conv.weight": _Calls(tmp_path / "x")}, protocol))
    with pytest.raises(InputError, match=r"it asks for posix\.mkdir\); nothing in them was run"):
        read_weights(tmp_path / "a.pdparams")
    assert not (tmp_path / "x").exists()


def test_links_of_a_keras_file_are_not_followed(tmp_path: Path) -> None:
    shutil.copy(FILES / "keras.h5", tmp_path / "other.h5")
    shutil.copy(FILES / "keras.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["Conv2d_1a_7x7_conv"]
        file["Conv2d_1a_7x7_conv"] = h5py.ExternalLink("other.h5", "/Conv2d_1a_7x7_conv")
    with pytest.raises(InputError, match="lack the variable Conv2d_1a_7x7_conv/weights"):
        read_weights(tmp_path / "a.h5")


def test_a_whole_saved_keras_model_has_its_weights_in_a_group(tmp_path: Path) -> None:
    with h5py.File(FILES / "keras.h5") as weights, h5py.File(tmp_path / "a.h5", "w") as model:
        group = model.create_group("model_weights")
        for layer in weights:
            weights.copy(layer, group)
    expected = read_weights(FILES / "keras.h5").tensors
    found = read_weights(tmp_path / "a.h5").tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_an_index_without_its_data_is_refused(tmp_path: Path) -> None:
    shutil.copy(FILES / "slim-v2.ckpt.index", tmp_path / "a.index")
    with pytest.raises(InputError, match=r"a\.data-00000-of-00001 do not exist; put them there"):
        read_weights(tmp_path / "a.index")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        InputError,
        match=r"needs h5py, which is not installed; run: pip install 'ensemble-eval\[keras\]'",
    ):
        read_weights(FILES / "keras.h5")


@pytest.mark.parametrize("table", [bytes(4), b"\x1c\0\0\0", b"\xff\xff\xff\x7f"])
def test_a_file_that_only_begins_as_a_tflite_model_is_none(tmp_path: Path, table: bytes) -> None:
    rest = np.random.default_rng(1).bytes(4000)
    (tmp_path / "a").write_bytes(table + b"TFL3" + rest)
    with pytest.raises(InputError, match="begin as a TFLite model and are none; get the file again"):
        read_weights(tmp_path / "a")
    model = (FILES / "classifier.tflite").read_bytes()
    (tmp_path / "a").write_bytes(model[:40])
    with pytest.raises(InputError, match="begin as a TFLite model and are none"):
        read_weights(tmp_path / "a")


@pytest.mark.parametrize("text", ["q: a\nr: b\n", "a: b\nc: d\n", ":" * 100, "(:\n" * 20, "}q:{key: 1\n"])
def test_a_text_file_is_no_file_of_weights(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match="of no format that is known, or damaged at the beginning; get the file"):
        read_weights(tmp_path / "a")


def test_mxnets_files_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    (tmp_path / "a.params").write_bytes((0x112).to_bytes(8, "little") + bytes(24))
    with pytest.raises(InputError, match="which are not read; where MXNet is"):
        read_weights(tmp_path / "a.params")


@pytest.mark.parametrize("file", ["caffe.caffemodel", "slim.pb"])
def test_a_name_that_is_no_text_is_refused_as_any_unknown_one(tmp_path: Path, file: str) -> None:
    data = (FILES / file).read_bytes()
    for name in (b"loss3/classifier", b"InceptionV1/Mixed_3b/Branch_0/Conv2d_0a_1x1/weights"):
        data = data.replace(name, b"\xff" + name[1:])
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(
        InputError, match=r"without weights and biases of a layer loss3|lack the variable Inception"
    ):
        read_weights(tmp_path / "a")


def test_a_checkpoint_of_several_files_is_named_by_its_index() -> None:
    with pytest.raises(InputError, match=r"of several files; name its slim-v2\.ckpt\.index"):
        Member("a", weights=FILES / "slim-v2.ckpt")


@pytest.mark.slow
def test_compressed_zeros_do_not_fill_the_memory(tmp_path: Path) -> None:
    shutil.copy(FILES / "keras.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for layer in list(file)[:40]:
            for inner in file[layer].values():
                for name in [name for name in inner if name == "kernel"]:
                    del inner[name]
                    chunks = (1, 1, 1, 1 << 22)
                    inner.create_dataset(name, (1, 1, 1, 1 << 25), "f4", compression="gzip", chunks=chunks)
    assert (tmp_path / "a.h5").stat().st_size < 1 << 20
    with pytest.raises(InputError, match="hold more than 512 MiB of numbers"):
        read_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("container", ["key", "set", "frozenset"])
def test_what_would_take_for_ever_to_hash_is_refused_at_once(tmp_path: Path, container: str) -> None:
    # Each tuple holds the last one twice, so that hashing the whole takes two to the power of two hundred steps.
    nested: tuple[object, ...] = ()
    for _ in range(200):
        nested = (nested, nested)
    body = pickle.dumps(nested, 2).removeprefix(b"\x80\x02").removesuffix(b".")
    data = {
        "key": b"}" + body + b"K\x01s.",
        "set": b"\x8f(" + body + b"\x90.",
        "frozenset": b"(" + body + b"\x91.",
    }
    (tmp_path / "a.pdparams").write_bytes(b"\x80\x04" + data[container])
    with pytest.raises(InputError, match=r"\(a key that is no name\)|\(a set, or a dictionary of an old kind\)"):
        read_weights(tmp_path / "a.pdparams")


def test_a_width_is_the_shortest_number_that_gives_the_channels() -> None:
    """Of the 64 channels of the first convolution, 0.1 leaves 6.4, as 0.09 leaves 5.8."""
    assert options_of({"conv1.conv.weight": torch.zeros(6, 3, 7, 7)}) == {"width": 0.1}


def _paddles(shape: object, dtype: str, data: bytes) -> paddle._Array:
    array = paddle._Array()
    array.state = (1, shape, paddle._Dtype(dtype), False, data)
    return array


def test_an_array_of_a_pickle_is_float32_of_a_shape_that_its_bytes_fill() -> None:
    data = np.array([[1, 2, 3], [4, 5, 6]], "<f4").tobytes()
    assert _paddles((2, 3), "f4", data).values().tolist() == [[1, 2, 3], [4, 5, 6]]
    for shape in ((2, 0), (2, -3), (2, 3.0), (True, 6)):
        with pytest.raises(ValueError, match="no array of float32"):
            _paddles(shape, "f4", data).values()
    with pytest.raises(ValueError, match=r"24 bytes for the shape \(2, 2\)"):
        _paddles((2, 2), "f4", data).values()
    with pytest.raises(ValueError, match="no array of float32"):
        _paddles((2, 3), "f8", data).values()


@pytest.mark.parametrize("state", [(3, ">", None), (3,), "<", None])
def test_numbers_of_another_byte_order_are_refused(state: object) -> None:
    paddle._Dtype("f4").__setstate__((3, "<", None, None, None, -1, -1, 0))
    with pytest.raises(pickle.UnpicklingError, match="numbers of another byte order"):
        paddle._Dtype("f4").__setstate__(state)


def test_a_parameter_of_a_pickle_may_be_a_pair_and_has_as_many_dimensions_as_ours() -> None:
    array = _paddles((2, 3), "f4", np.arange(6, dtype="<f4").tobytes())
    for stated in (array, ("another name", array)):
        assert paddle._tensor({"w": stated}, "w", 2, "weights").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(InputError, match=r"weights: w has the shape \(2, 3\), and GoogLeNet has another there"):
        paddle._tensor({"w": array}, "w", 4, "weights")
    with pytest.raises(InputError, match=r"weights lack the parameter v; .* and these are w"):
        paddle._tensor({"w": array}, "v", 2, "weights")
