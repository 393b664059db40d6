"""Graphs and Caffe models by the bytes that their files begin with."""

import struct
from pathlib import Path

import pytest

from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import Member
from ensemble_eval.members.imported import GRAPH, Imported, InputFormat
from ensemble_eval.members.importers import caffe
from ensemble_eval.members.importers.graphs import is_onnx, is_onnx_file, is_tflite, read_frozen, read_tflite


def _tflite(version: int = 3, offsets_size: int = 6, table_size: int = 8, version_at: int = 4) -> bytes:
    """The place of the table, the name, the offsets of its fields, and the table with a version."""
    return struct.pack("<I4sI3HHiI", 20, b"TFL3", 0, offsets_size, table_size, version_at, 0, 8, version)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\x08\x07\x12", True),
        (b"\x08\x1f\x42rest", True),
        (b"\x08\x20\x12", False),
        (b"\x08\x07\x13", False),
        (b"\x09\x07\x12", False),
        (b"\x08\x07", False),
        (b"\x08", False),
        (b"", False),
    ],
)
def test_an_onnx_model_begins_with_a_small_version(tmp_path: Path, head: bytes, is_one: bool) -> None:
    assert is_onnx(head) == is_one
    (tmp_path / "a").write_bytes(head)
    assert is_onnx_file(tmp_path / "a") == is_one


def test_a_tflite_model_of_version_3_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_tflite())
    assert is_tflite(_tflite())
    assert read_tflite(tmp_path / "a") == Imported(format="a TFLite model", arch=GRAPH, certain=True)


@pytest.mark.parametrize(
    "data",
    [
        _tflite(version=2),
        _tflite(offsets_size=5),
        _tflite(table_size=7),
        _tflite(version_at=0),
        _tflite()[:-1],
        b"xxxxTFL3",
    ],
)
def test_what_only_begins_as_a_tflite_model_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="begin as a TFLite model and are none; get the file again"):
        read_tflite(tmp_path / "a")


def test_the_inception_of_2015_is_known_by_three_of_its_tensors(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0conv2d0_w\0mixed5b\0softmax2\0")
    found = read_frozen(tmp_path / "a")
    assert found.arch == GRAPH
    assert found.input == InputFormat(scale=1.0, mean=(117.0, 117.0, 117.0), std=(1.0, 1.0, 1.0))
    (tmp_path / "a").write_bytes(b"\0conv2d0_w\0softmax2\0")
    assert read_frozen(tmp_path / "a").input is None


def test_of_a_graph_that_does_not_say_how_it_wants_its_pixels_a_member_states_it(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07\x12\x04test".ljust(100))
    with pytest.raises(InputError, match="an ONNX model, which does not say how it wants its pixels; state"):
        Member("a", weights=tmp_path / "a.onnx")
    assert Member("a", weights=tmp_path / "a.onnx", input=InputFormat()).arch == GRAPH


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\x0a\x03net\xa2\x06", True),
        (b"\x0a\x03net\x12\x05", True),
        (b"\x12\x05", True),
        # TensorFlow's frozen graph has a message there, and no name.
        (b"\x0a\x03\nab\x12\x05", False),
        (b"\x0a\x03net\x13\x05", False),
        (b"\x0b\x03net\xa2\x06", False),
        # A name of more than 127 bytes has two bytes of length.
        (b"\x0a\x83" + b"n" * 131 + b"\xa2\x06", False),
    ],
)
def test_a_caffe_model_begins_with_its_name_or_its_first_layer(head: bytes, is_one: bool) -> None:
    assert caffe.recognises(head) == is_one
