"""A frozen graph and a checkpoint of TF-slim's inception_v1, and what TensorFlow computes with them.

    python -m venv V && V/bin/pip install tensorflow-cpu && V/bin/python make_slim.py

TF-slim's own script of the network does not run with today's TensorFlow, so that the graph is built here with its
names. The classes are 8: a background and 7 others.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from common import CLASSES, FILES, STAGES, narrow, pixels, store

v1 = tf.compat.v1
v1.disable_eager_execution()
NAMES = dict(zip(STAGES, ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"), strict=True))
rng = np.random.default_rng(3)


def variable(name: str, shape: tuple[int, ...], scale: float, offset: float = 0.0) -> Any:
    drawn = rng.standard_normal(shape) * scale
    values = np.abs(drawn) + offset if offset else drawn
    return v1.get_variable(name, initializer=values.astype(np.float32))


def unit(x: Any, channels: int, kernel: int, name: str, stride: int = 1) -> Any:
    with v1.variable_scope(name):
        shape = (kernel, kernel, x.shape[-1], channels)
        weights = variable("weights", shape, (2 / np.prod(shape[:-1])) ** 0.5)
        x = tf.nn.conv2d(x, weights, stride, "SAME")
        with v1.variable_scope("BatchNorm"):
            beta, mean = variable("beta", (channels,), 0.1), variable("moving_mean", (channels,), 0.1)
            deviation = variable("moving_variance", (channels,), 1.0, 0.5)
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, deviation, beta, None, 0.001))


def module(x: Any, stage: str) -> Any:
    one, reduce3, three, reduce5, five, projection = map(narrow, STAGES[stage])
    with v1.variable_scope(f"Mixed_{NAMES[stage]}"):
        with v1.variable_scope("Branch_0"):
            first = unit(x, one, 1, "Conv2d_0a_1x1")
        with v1.variable_scope("Branch_1"):
            second = unit(unit(x, reduce3, 1, "Conv2d_0a_1x1"), three, 3, "Conv2d_0b_3x3")
        with v1.variable_scope("Branch_2"):
            # Their script has this name for one of the nine.
            name = "Conv2d_0a_3x3" if stage == "5a" else "Conv2d_0b_3x3"
            third = unit(unit(x, reduce5, 1, "Conv2d_0a_1x1"), five, 3, name)
        with v1.variable_scope("Branch_3"):
            fourth = unit(tf.nn.max_pool2d(x, 3, 1, "SAME"), projection, 1, "Conv2d_0b_1x1")
    return tf.concat([first, second, third, fourth], 3)


def network(x: Any) -> Any:
    with v1.variable_scope("InceptionV1"):
        x = tf.nn.max_pool2d(unit(x, narrow(64), 7, "Conv2d_1a_7x7", 2), 3, 2, "SAME")
        x = unit(unit(x, narrow(64), 1, "Conv2d_2b_1x1"), narrow(192), 3, "Conv2d_2c_3x3")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for stage in STAGES:
            x = module(x, stage)
            if stage in ("3b", "4e"):
                x = tf.nn.max_pool2d(x, 3 if stage == "3b" else 2, 2, "SAME")
        x = tf.nn.avg_pool2d(x, 7, 1, "VALID")
        with v1.variable_scope("Logits"), v1.variable_scope("Conv2d_0c_1x1"):
            weights = variable("weights", (1, 1, x.shape[-1], CLASSES + 1), 0.05)
            x = tf.nn.conv2d(x, weights, 1, "SAME") + variable("biases", (CLASSES + 1,), 0.1)
        return tf.nn.softmax(tf.squeeze(x, [1, 2]), name="Predictions")


def main() -> None:
    inputs = pixels().transpose(0, 2, 3, 1).astype(np.float32) / 255 * 2 - 1
    placeholder = v1.placeholder(tf.float32, (None, 224, 224, 3), "input")
    probabilities = network(placeholder)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        computed = session.run(probabilities, {placeholder: inputs})
        graph = v1.graph_util.convert_variables_to_constants(session, session.graph_def, [probabilities.op.name])
        (FILES / "slim.pb").write_bytes(graph.SerializeToString())
        store("slim", computed)
        old = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        old.save(session, str(FILES / "slim-v1.ckpt"), write_meta_graph=False)
        v1.train.Saver().save(session, str(FILES / "slim-v2.ckpt"), write_meta_graph=False)
    (FILES / "checkpoint").unlink()
    for name in ("slim-v1", "slim-v2"):
        store(name, computed)


main()
