"""A TFLite classifier and a frozen graph with the names of inception5h, and what TensorFlow computes with them.

python -m venv V && V/bin/pip install tensorflow-cpu && V/bin/python make_graphs.py
"""

from typing import Any

import numpy as np
import tensorflow as tf
from common import CLASSES, FILES, pixels, store

v1 = tf.compat.v1
rng = np.random.default_rng(5)


def constant(name: str, *shape: int) -> Any:
    scale = (2 / np.prod(shape[:-1])) ** 0.5
    return tf.constant((rng.standard_normal(shape) * scale).astype(np.float32), name=name)


def tflite(inputs: Any) -> None:
    kernel, matrix = constant("k", 5, 5, 3, 8), constant("m", 8, CLASSES)

    @tf.function(input_signature=[tf.TensorSpec((1, 224, 224, 3), tf.float32)])
    def classify(x: Any) -> Any:
        x = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, kernel, 4, "SAME")), [1, 2])
        return tf.nn.softmax(x @ matrix)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([classify.get_concrete_function()])
    model = converter.convert()
    (FILES / "classifier.tflite").write_bytes(model)
    interpreter = tf.lite.Interpreter(model_content=model)
    interpreter.allocate_tensors()
    rows = []
    for picture in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    store("classifier", rows)


def inception5h(inputs: Any) -> None:
    """A background first, then 7 classes, then another output without a class: nine in all."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = placeholder = v1.placeholder(tf.float32, name="input")
        x = tf.nn.relu(tf.nn.conv2d(x, constant("conv2d0_w", 7, 7, 3, 8), 2, "SAME"), name="conv2d0")
        x = tf.nn.lrn(tf.nn.max_pool2d(x, 3, 2, "SAME"), 2, bias=2.0, alpha=1e-4, beta=0.5)
        x = tf.reduce_mean(
            tf.nn.relu(tf.nn.conv2d(x, constant("w", 3, 3, 8, 8), 2, "SAME"), name="mixed5b"), [1, 2]
        )
        heads = [
            tf.nn.softmax(x @ (constant(f"softmax{i}_w", 8, CLASSES + 2) / 20), name=f"softmax{i}")
            for i in range(3)
        ]
        graph = v1.graph_util.convert_variables_to_constants(
            session, session.graph_def, [each.op.name for each in heads]
        )
        (FILES / "inception5h.pb").write_bytes(graph.SerializeToString())
        store("inception5h", session.run(heads[2], {placeholder: inputs}))


raw = pixels().transpose(0, 2, 3, 1).astype(np.float32)
tflite(raw / 255)
inception5h(raw - 117)
