"""Counting a network's weights and multiply-adds by running shapes through it, without any arithmetic."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_eval.errors import InputError
from ensemble_eval.models.registry import PYTHON_PREFIX, build
from ensemble_eval.models.stages import INPUT_CHANNELS, INPUT_SIZE


@dataclass(frozen=True)
class StageCount:
    """One named stage of a network for one 224×224 crop.

    Attributes:
        name: of the stage's module.
        output: (channels, height, width) of its output.
        weights: of convolutions and linear layers, without biases and normalisation, as Table 1 counts.
        parameters: everything that is trained.
        multiply_adds: of convolutions and linear layers.
    """

    name: str
    output: tuple[int, ...]
    weights: int
    parameters: int
    multiply_adds: int


def count_network(arch: str, num_classes: int, *, width: float = 1.0) -> list[StageCount]:
    """Count each top-level stage of a registered architecture, in the order of the forward pass.

    Raises:
        InputError: unknown architecture, impossible width or class count.
    """
    if arch.startswith(PYTHON_PREFIX):
        raise InputError("describe counts the registry's architectures, not python: callables")
    with torch.device("meta"):
        network = build(arch, num_classes, width=width).eval()
        crop = torch.empty(1, INPUT_CHANNELS, INPUT_SIZE, INPUT_SIZE)
    counts: list[StageCount] = []
    multiply_adds: dict[nn.Module, int] = {}
    for name, stage in network.named_children():
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(_remember_multiply_adds(multiply_adds))
        stage.register_forward_hook(_append_stage(counts, name, multiply_adds))
    network(crop)
    return counts


def _remember_multiply_adds(multiply_adds: dict[nn.Module, int]) -> Callable[..., None]:
    def hook(layer: nn.Conv2d | nn.Linear, _inputs: Any, output: Tensor) -> None:
        # Each output value of a convolution or linear layer is one dot product with one filter.
        multiply_adds[layer] = output.numel() * math.prod(layer.weight.shape[1:])

    return hook


def _append_stage(counts: list[StageCount], name: str, multiply_adds: dict[nn.Module, int]) -> Callable[..., None]:
    def hook(stage: nn.Module, _inputs: Any, output: Tensor) -> None:
        layers = [layer for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        counts.append(
            StageCount(
                name=name,
                output=tuple(output.shape[1:]),
                weights=sum(layer.weight.numel() for layer in layers),
                parameters=sum(parameter.numel() for parameter in stage.parameters()),
                multiply_adds=sum(multiply_adds[layer] for layer in layers),
            )
        )

    return hook
