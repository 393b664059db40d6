"""Classifier graphs that run as they are: ONNX, TFLite, and TensorFlow's frozen graphs but TF-slim's."""

import struct
from pathlib import Path

from ensemble_eval.errors import InputError
from ensemble_eval.files import open_regular, read_regular
from ensemble_eval.members.imported import GRAPH, Imported, InputFormat

_TFLITE_AT, _TFLITE, _TFLITE_VERSION = 4, b"TFL3", 3
# ONNX begins with its version, a small number, and then the producer's name, the domain or the graph.
_ONNX_VERSION, _ONNX_NEXT = b"\x08", (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")
# "Inception5h", which TensorFlow published in 2015, is recognised by its first convolution and its last head.
_INCEPTION_5H = (b"conv2d0_w", b"softmax2", b"mixed5b")
_INCEPTION_5H_INPUT = InputFormat(scale=1.0, mean=(117.0, 117.0, 117.0), std=(1.0, 1.0, 1.0))


def is_tflite(head: bytes) -> bool:
    """Whether a file begins as a TFLite model does."""
    return head[_TFLITE_AT : _TFLITE_AT + len(_TFLITE)] == _TFLITE


def is_onnx(head: bytes) -> bool:
    """Whether a file begins as an ONNX model does."""
    return head.startswith(_ONNX_VERSION) and len(head) > 1 and head[1] < 0x20 and head[2:3] in _ONNX_NEXT


def is_onnx_file(path: Path) -> bool:
    """Whether a file begins as an ONNX model does."""
    with open_regular(path) as file:
        return is_onnx(file.read(3))


def read_tflite(path: Path) -> Imported:
    """What a TFLite model says: nothing but its graph.

    Raises:
        InputError: behind the beginning of a TFLite model comes something else.
    """
    data = read_regular(path)
    try:
        # A FlatBuffer: the place of its table, which begins with the distance back to the offsets of its fields.
        (table,) = struct.unpack_from("<I", data)
        (back,) = struct.unpack_from("<i", data, table)
        offsets_size, table_size, version_at = struct.unpack_from("<3H", data, table - back)
        (version,) = struct.unpack_from("<I", data, table + version_at)
    except struct.error:
        version = None
    if version != _TFLITE_VERSION or offsets_size < 6 or not 4 <= version_at <= table_size - 4:
        raise InputError(f"the weights {path} begin as a TFLite model and are none; get the file again")
    return Imported(format="a TFLite model", arch=GRAPH, certain=True)


def read_onnx(path: Path) -> Imported:  # noqa: ARG001 (the signature of every importer)
    """What an ONNX model says: nothing but its graph."""
    return Imported(format="an ONNX model", arch=GRAPH, certain=True)


def read_frozen(path: Path) -> Imported:
    """What a frozen graph says; of the Inception of 2015, its preprocessing and which of three heads counts."""
    data = path.read_bytes()
    if all(name in data for name in _INCEPTION_5H):
        return Imported(
            format="TensorFlow's frozen graph of 2015, inception5h",
            arch=GRAPH,
            options={"output": "softmax2"},
            input=_INCEPTION_5H_INPUT,
            certain=True,
            notes=("its 1008 outputs are in an order of their own; name a table of them as `outputs`",),
        )
    return Imported(format="a frozen graph of TensorFlow", arch=GRAPH, certain=True)
