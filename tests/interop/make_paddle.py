"""Parameters of PaddleClas's GoogLeNet as Paddle saves them, and what Paddle computes with them.

    python -m venv V && V/bin/pip install paddlepaddle setuptools && V/bin/python make_paddle.py

The network is built here with PaddleClas's names, so that its package is not needed.
"""

from typing import Any

import numpy as np
import paddle
from common import CLASSES, FILES, STAGES, narrow, pixels, store
from paddle import nn
from paddle.nn import functional

rng = np.random.default_rng(4)


class Convolution(nn.Layer):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self._conv = nn.Conv2D(inputs, outputs, kernel, stride, kernel // 2, bias_attr=False)

    def forward(self, x: Any) -> Any:
        return self._conv(x)


class Module(nn.Layer):
    def __init__(self, inputs: int, stage: str) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, projection = map(narrow, STAGES[stage])
        self._conv1 = Convolution(inputs, one, 1)
        self._conv3r, self._conv3 = Convolution(inputs, reduce3, 1), Convolution(reduce3, three, 3)
        self._conv5r, self._conv5 = Convolution(inputs, reduce5, 1), Convolution(reduce5, five, 5)
        self._pool = nn.MaxPool2D(3, 1, 1)
        self._convprj = Convolution(inputs, projection, 1)
        self.outputs = one + three + five + projection

    def forward(self, x: Any) -> Any:
        second, third = self._conv3(self._conv3r(x)), self._conv5(self._conv5r(x))
        return functional.relu(
            paddle.concat([self._conv1(x), second, third, self._convprj(self._pool(x))], axis=1)
        )


class GoogLeNet(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self._conv = Convolution(3, narrow(64), 7, 2)
        self._pool = nn.MaxPool2D(3, 2)
        self._conv_1, self._conv_2 = (
            Convolution(narrow(64), narrow(64), 1),
            Convolution(narrow(64), narrow(192), 3),
        )
        channels = narrow(192)
        for stage in STAGES:
            module = Module(channels, stage)
            setattr(self, f"_ince{stage}", module)
            channels = module.outputs
        self._pool_5 = nn.AvgPool2D(7, 7)
        self._drop = nn.Dropout(0.4, mode="downscale_in_infer")
        self._fc_out = nn.Linear(channels, CLASSES)

    def forward(self, x: Any) -> Any:
        x = self._pool(self._conv(x))
        x = self._pool(self._conv_2(self._conv_1(x)))
        for stage in STAGES:
            x = getattr(self, f"_ince{stage}")(x)
            if stage in ("3b", "4e"):
                x = self._pool(x)
        return self._fc_out(paddle.squeeze(self._drop(self._pool_5(x)), [2, 3]))


def main() -> None:
    network = GoogLeNet()
    for name, parameter in network.named_parameters():
        scale = 0.07 if "fc_out" in name else (1.4 / np.prod(parameter.shape[1:])) ** 0.5
        parameter.set_value((rng.standard_normal(parameter.shape) * scale).astype(np.float32))
    network.eval()
    mean, std = (
        np.array(values, np.float32)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    inputs = (pixels().astype(np.float32) / 255 - mean) / std
    probabilities = functional.softmax(network(paddle.to_tensor(inputs)))
    paddle.save(network.state_dict(), str(FILES / "paddle.pdparams"))
    store("paddle", probabilities.numpy())
    paddle.save(network.state_dict(), str(FILES / "paddle-2.pdparams"), protocol=2)
    store("paddle-2", probabilities.numpy())


main()
