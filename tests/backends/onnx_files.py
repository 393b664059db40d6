"""A small classifier in ONNX, and what ONNX Runtime makes of it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ensemble_eval.members.imported import InputFormat

CLASSIFIER_INPUT = InputFormat(scale=128.0, mean=(1.0, 0.9, 1.1), std=(1.0, 1.0, 2.0))


def write_classifier(path: Path, *, batch: int | str = "N", softmax: bool = True, heads: int = 1) -> Path:
    """A small classifier, written with ONNX's own helper."""
    rng = np.random.default_rng(0)
    arrays = {
        "kernel": rng.standard_normal((8, 3, 7, 7)) * 0.1,
        "matrix": rng.standard_normal((8, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    names = ["probabilities" if softmax else "logits", "f"][:heads]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def some_crops(count: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def onnx_runtime_probabilities(path: Path, crops: torch.Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in (CLASSIFIER_INPUT.mean, CLASSIFIER_INPUT.std)
    )
    normalised = ((crops.numpy() / np.float32(128)) - mean) / std
    rows = [session.run(None, {"x": picture[None].astype(np.float32)})[0] for picture in normalised]
    return np.concatenate(rows)
