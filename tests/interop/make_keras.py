"""Weights of Inception-v1 as Keras scripts save them, and what Keras computes with them.

    python -m venv V && V/bin/pip install tensorflow-cpu && V/bin/python make_keras.py

The layers carry the names of fchollet's layout. The classes are 8: a background and 7 others.
"""

from typing import Any

import keras
import numpy as np
from common import CLASSES, FILES, STAGES, narrow, pixels, store
from keras import layers

NAMES = dict(zip(STAGES, ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"), strict=True))


def unit(x: Any, channels: int, kernel: int, name: str, stride: int = 1) -> Any:
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_act")(x)


def module(x: Any, stage: str) -> Any:
    one, reduce3, three, reduce5, five, projection = map(narrow, STAGES[stage])
    name = f"Mixed_{NAMES[stage]}_Branch"
    second = unit(unit(x, reduce3, 1, f"{name}_1_a_1x1"), three, 3, f"{name}_1_b_3x3")
    third = unit(unit(x, reduce5, 1, f"{name}_2_a_1x1"), five, 3, f"{name}_2_b_3x3")
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_3_a_max")(x)
    branches = [unit(x, one, 1, f"{name}_0_a_1x1"), second, third, unit(pooled, projection, 1, f"{name}_3_b_1x1")]
    return layers.Concatenate(name=f"Mixed_{NAMES[stage]}_Concatenated")(branches)


def network() -> Any:
    inputs = layers.Input((224, 224, 3))
    x = unit(inputs, narrow(64), 7, "Conv2d_1a_7x7", stride=2)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = unit(unit(x, narrow(64), 1, "Conv2d_2b_1x1"), narrow(192), 3, "Conv2d_2c_3x3")
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage in STAGES:
        x = module(x, stage)
        if stage in ("3b", "4e"):
            size = 3 if stage == "3b" else 2
            x = layers.MaxPooling2D(size, 2, padding="same")(x)
    x = layers.AveragePooling2D(7, 1, padding="valid")(x)
    x = layers.Conv2D(CLASSES + 1, 1, name="Logits")(layers.Dropout(0.2)(x))
    return keras.Model(inputs, layers.Activation("softmax")(layers.Flatten()(x)))


def main() -> None:
    rng = np.random.default_rng(2)
    model = network()
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            drawn = rng.standard_normal(weight.shape)
            if weight.name == "kernel":
                drawn *= (2 / np.prod(weight.shape[:-1])) ** 0.5 * (0.6 if layer.name == "Logits" else 1)
            else:
                drawn *= 0.1
            values.append(np.abs(drawn) + 0.8 if "variance" in weight.name else drawn)
        layer.set_weights(values)
    model.save_weights(FILES / "keras.weights.h5")
    legacy(model)
    inputs = pixels().transpose(0, 2, 3, 1).astype(np.float32) / 255 * 2 - 1
    store("keras", model(inputs, training=False))


def legacy(model: Any) -> None:
    """Keras 1 and 2 wrote this container, and Keras 3 has kept the writer for it."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(FILES / "keras.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    (FILES / "keras.weights.h5").unlink()


main()
