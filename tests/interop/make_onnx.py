"""An ONNX classifier, and what ONNX Runtime computes with it.

python -m venv V && V/bin/pip install onnx onnxruntime && V/bin/python make_onnx.py
"""

import numpy as np
import onnx
import onnxruntime
from common import CLASSES, FILES, pixels, store
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    rng = np.random.default_rng(6)
    arrays = {"kernel": rng.standard_normal((8, 3, 5, 5)) * 0.2, "matrix": rng.standard_normal((8, CLASSES))}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, FILES / "onnx.onnx")
    session = onnxruntime.InferenceSession(str(FILES / "onnx.onnx"), providers=["CPUExecutionProvider"])
    store("onnx", session.run(None, {"x": pixels().astype(np.float32) / 255})[0])


main()
