"""TF-slim's inception_v1: frozen graphs, and checkpoints of both of TensorFlow's formats.

Only the values of variables are read, by their names. A graph is never run, and TensorFlow is not needed.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.errors import InputError
from ensemble_eval.members.imported import Imported
from ensemble_eval.members.importers import graphs, inception_v1, sorted_table
from ensemble_eval.members.importers.layouts import trunk_names
from ensemble_eval.members.importers.protocol_buffers import floats, messages, parsed, text

_SCOPE = "InceptionV1/"
_COLUMNS = (
    *("0/Conv2d_0a_1x1", "1/Conv2d_0a_1x1", "1/Conv2d_0b_3x3"),
    *("2/Conv2d_0a_1x1", "2/Conv2d_0b_3x3", "3/Conv2d_0b_1x1"),
)
_NAMING = inception_v1.Naming(
    # TF-slim's script names one of the nine otherwise.
    trunk_names(inception_v1.STEM, "Mixed_{}/Branch_{}", _COLUMNS, inception_v1.MODULES)
    | {"inception5a.branch3.1": "Mixed_5b/Branch_2/Conv2d_0a_3x3"},
    weights="InceptionV1/{}/weights",
    normalisation="InceptionV1/{}/BatchNorm/{}",
    classifier="InceptionV1/Logits/Conv2d_0c_1x1/{}",
)
_messages = partial(messages, "tensorflow", "a graph or checkpoint of TensorFlow")
_FLOAT32 = 1
_MAX_ELEMENTS = 1 << 26


def is_graph(head: bytes) -> bool:
    """Whether a file begins as a graph does: with a node, which begins with its name."""
    # The length of the node may need two bytes or three.
    after = next((at for at in range(1, 5) if head[at] < 0x80), 0) + 1
    return head[0] == 0x0A and after > 1 and head[after] == 0x0A


def read_graph(path: Path) -> Imported:
    """The network of a frozen graph.

    Raises:
        InputError: protobuf is not installed, or the file is damaged or holds another network.
    """
    place = f"the weights {path}"
    graph = parsed(_messages()["Graph"](), path.read_bytes(), place)
    constants = {
        text(node.name).removeprefix("import/"): attribute.value.tensor
        for node in graph.node
        if node.op == "Const"
        for attribute in node.attr
        if attribute.key == "value"
    }
    if not any(name.startswith(_SCOPE) for name in constants):
        return graphs.read_frozen(path)

    def variable(name: str) -> NDArray[np.float32] | None:
        return _values(constants[name], f"{place}: {name}") if name in constants else None

    return inception_v1.imported(variable, _NAMING, "a frozen graph of TF-slim's inception_v1", place)


def read_checkpoint(path: Path) -> Imported:
    """The network of a checkpoint: of the first format's one file, or of the second's `.index`, beside its data.

    Raises:
        InputError: protobuf is not installed, or a file is missing, damaged or of another network.
    """
    place = f"the weights {path}"
    table = sorted_table.read(path)
    # Under the empty name is what the whole is: the first format's shapes, or the second's header.
    slices = parsed(_messages()["Slices"](), table.get(b"", b""), place) if path.suffix != ".index" else None
    if slices is not None and slices.meta.tensor:
        variables = _of_the_first_format(slices.meta, table, place)
    else:
        variables = _of_the_second_format(path, table, place)
    return inception_v1.imported(variables, _NAMING, "a checkpoint of TF-slim's inception_v1", place)


def _of_the_first_format(meta: Any, table: Mapping[bytes, bytes], place: str) -> inception_v1.Variables:
    shapes = {tensor.name: _shape(tensor.shape) for tensor in meta.tensor if tensor.type == _FLOAT32}
    slices = [parsed(_messages()["Slices"](), value, place).data for key, value in table.items() if key]
    known = [each for each in slices if each.name in shapes]
    values = {each.name: each.data.float_val for each in known}
    if len(values) < len(known):
        raise InputError(f"{place} hold a variable in several pieces; save the checkpoint anew on one machine")

    return lambda name: floats(values[name], shapes[name], f"{place}: {name}") if name in values else None


def _of_the_second_format(path: Path, table: Mapping[bytes, bytes], place: str) -> inception_v1.Variables:
    named = {key.decode(errors="replace"): value for key, value in table.items() if key}
    entries = {name: parsed(_messages()["Entry"](), value, place) for name, value in named.items()}
    data_path = path.with_name(path.name.removesuffix(".index") + ".data-00000-of-00001")
    if not data_path.is_file():
        raise InputError(
            f"{place} are the index of a checkpoint, whose data {data_path} do not exist; put them there"
        )

    def variable(name: str) -> NDArray[np.float32] | None:
        entry = entries.get(name)
        if entry is None:
            return None
        lies_there = not entry.shard_id and entry.offset >= 0 and 0 <= entry.size <= 4 * _MAX_ELEMENTS
        if entry.dtype != _FLOAT32 or not lies_there:
            raise InputError(f"{place}: {name} is no float32 of one data file; save the checkpoint anew")
        with data_path.open("rb") as file:
            file.seek(entry.offset)
            return floats(file.read(entry.size), _shape(entry.shape), f"{place}: {name}")

    return variable


def _values(tensor: Any, place: str) -> NDArray[np.float32]:
    shape = _shape(tensor.tensor_shape)
    if tensor.dtype != _FLOAT32:
        raise InputError(f"{place} holds other numbers than float32; freeze the graph in float32")
    elements = math.prod(shape)
    if tensor.tensor_content or len(tensor.float_val) == 4 * elements:
        return floats(tensor.tensor_content or tensor.float_val, shape, place)
    # TensorFlow writes equal values at the end of an array once.
    values = floats(tensor.float_val, (len(tensor.float_val) // 4,), place) if tensor.float_val else np.zeros(1)
    if not len(values) <= elements <= _MAX_ELEMENTS or min(shape, default=1) < 1:
        raise InputError(f"{place} is damaged: {len(values)} values for the shape {shape}; get the file again")
    return np.pad(values, (0, elements - len(values)), mode="edge").astype(np.float32).reshape(shape)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(dimension.size for dimension in shape.dim)
