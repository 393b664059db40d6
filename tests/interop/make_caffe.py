"""Caffe models, old and new, and what OpenCV 4's own Caffe importer computes with them.

    python -m venv V && V/bin/pip install 'opencv-python-headless<5' && V/bin/python make_caffe.py

Caffe itself cannot be installed any more. The files are written after caffe.proto by a protobuf writer of a
dozen lines, which shares nothing with the importer that the tests test.
"""

import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from common import CLASSES, FILES, STAGES, narrow, pixels, store

rng = np.random.default_rng(1)
V1_TYPES = {"Convolution": 4, "InnerProduct": 14}


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(values: Any, old: bool) -> bytes:
    data = field(5, np.asarray(values, "<f4").tobytes())
    if old:
        sizes = (1,) * (4 - values.ndim) + values.shape
        return b"".join(varint(n << 3) + varint(size) for n, size in enumerate(sizes, 1)) + data
    return field(7, field(1, b"".join(map(varint, values.shape)))) + data


def layer(name: str, kind: str, blobs: list[Any], old: bool) -> bytes:
    if old:
        content = field(4, name.encode()) + varint(5 << 3) + varint(V1_TYPES[kind])
        return field(2, content + b"".join(field(6, blob(each, old)) for each in blobs))
    content = field(1, name.encode()) + field(2, kind.encode())
    return field(100, content + b"".join(field(7, blob(each, old)) for each in blobs))


class Net:
    """The prototxt of bvlc_googlenet as its layers come, and their weights."""

    def __init__(self) -> None:
        self.text = [
            'name: "GoogleNet"',
            'input: "data"',
            "input_dim: 1 input_dim: 3 input_dim: 224 input_dim: 224",
        ]
        self.weights: list[tuple[str, str, list[Any]]] = []
        self.channels = {"data": 3}

    def add(self, name: str, kind: str, bottoms: list[str], parameters: str = "", top: str = "") -> str:
        top = top or name
        tops = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(f'layer {{ name: "{name}" type: "{kind}"{tops} top: "{top}" {parameters} }}')
        return top

    def convolution(self, name: str, bottom: str, outputs: int, kernel: int, stride: int = 1) -> str:
        inputs = self.channels[bottom]
        scale = (1.5 / (inputs * kernel * kernel)) ** 0.5
        weight = (rng.standard_normal((outputs, inputs, kernel, kernel)) * scale).astype(np.float32)
        self.weights.append((name, "Convolution", [weight, rng.standard_normal(outputs) * 9]))
        parameters = f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {kernel // 2}"
        self.add(name, "Convolution", [bottom], f"convolution_param {{ {parameters} }}")
        self.channels[name] = outputs
        return self.add(f"{name}/relu", "ReLU", [name], top=name)

    def pool(self, name: str, bottom: str, parameters: str) -> str:
        self.channels[name] = self.channels[bottom]
        return self.add(name, "Pooling", [bottom], f"pooling_param {{ {parameters} }}")

    def lrn(self, name: str, bottom: str) -> str:
        self.channels[name] = self.channels[bottom]
        return self.add(name, "LRN", [bottom], "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def module(self, stage: str, bottom: str) -> str:
        name = f"inception_{stage}"
        one, reduce3, three, reduce5, five, projection = map(narrow, STAGES[stage])
        pooled = self.pool(f"{name}/pool", bottom, "pool: MAX kernel_size: 3 stride: 1 pad: 1")
        branches = [
            self.convolution(f"{name}/1x1", bottom, one, 1),
            self.convolution(f"{name}/3x3", self.convolution(f"{name}/3x3_reduce", bottom, reduce3, 1), three, 3),
            self.convolution(f"{name}/5x5", self.convolution(f"{name}/5x5_reduce", bottom, reduce5, 1), five, 5),
            self.convolution(f"{name}/pool_proj", pooled, projection, 1),
        ]
        self.channels[f"{name}/output"] = sum(self.channels[branch] for branch in branches)
        return self.add(f"{name}/output", "Concat", branches)


def network() -> Net:
    net = Net()
    halve = "pool: MAX kernel_size: 3 stride: 2"
    x = net.pool("pool1/3x3_s2", net.convolution("conv1/7x7_s2", "data", narrow(64), 7, 2), halve)
    x = net.convolution("conv2/3x3_reduce", net.lrn("pool1/norm1", x), narrow(64), 1)
    x = net.lrn("conv2/norm2", net.convolution("conv2/3x3", x, narrow(192), 3))
    x = net.pool("pool2/3x3_s2", x, halve)
    for stage in STAGES:
        x = net.module(stage, x)
        if stage in ("3b", "4e"):
            x = net.pool(f"pool{int(stage[0])}/3x3_s2", x, halve)
    x = net.pool("pool5/7x7_s1", x, "pool: AVE global_pooling: true")
    weight = (rng.standard_normal((CLASSES, net.channels[x])) * 0.02).astype(np.float32)
    net.weights.append(("loss3/classifier", "InnerProduct", [weight, rng.standard_normal(CLASSES)]))
    x = net.add("loss3/classifier", "InnerProduct", [x], f"inner_product_param {{ num_output: {CLASSES} }}")
    net.add("prob", "Softmax", [x])
    return net


def batches() -> Iterator[Any]:
    for picture in pixels():
        yield picture[::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)[:, None, None]


def main() -> None:
    net = network()
    text = "\n".join(net.text).encode()
    for name, old in (("caffe", False), ("caffe-old", True)):
        data = field(1, b"GoogleNet") + b"".join(layer(*each, old) for each in net.weights)
        (FILES / f"{name}.caffemodel").write_bytes(data)
        reader = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.frombuffer(data, np.uint8))
        probabilities = []
        for picture in batches():
            reader.setInput(picture[None])
            probabilities.append(reader.forward("prob")[0].ravel())
        store(name, probabilities)


assert struct.calcsize("<f") == 4
main()
