"""GoogLeNet and its variants, assembled from the stage table (Table 1, Figures 2 and 3)."""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ensemble_eval.models import layers, stages
from ensemble_eval.models.layers import Variant

PAPER = Variant()
NAIVE = Variant(reductions=False)
# Three deviations from the paper, all of them torchvision's, whose state dicts this variant must fit:
# the "5×5" branch is a 3×3 (pytorch/vision#906), the last pool is 2×2, the heads' pool is adaptive.
TORCHVISION = Variant(batch_norm=True, large_kernel=3, last_pool_kernel=2, adaptive_auxiliary_pool=True)
# As TF-slim and Keras train it. At 224 pixels only the first convolution's padding differs from torchvision's.
TENSORFLOW = replace(TORCHVISION, same_padding=True)
# As PaddleClas trains it: its pools round down, so that the last of them gives 6×6.
PADDLE = replace(PAPER, ceil_mode=False, linear=True)


class GoogLeNetOutputs(NamedTuple):
    """Logits [B, classes] of the network and of its auxiliary heads (on 4d and on 4a), in train mode."""

    logits: Tensor
    aux2: Tensor
    aux1: Tensor


class GoogLeNet(nn.Module):
    """The network of Table 1: normalised float [B, 3, H, W] -> logits [B, num_classes].

    In train mode with auxiliary heads it returns `GoogLeNetOutputs`. With batch norm and width 1.0 the
    state dict is torchvision's, key for key.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        *,
        width: float = 1.0,
        auxiliary_heads: bool = False,
        dropout: float = stages.DROPOUT,
        auxiliary_dropout: float = stages.AUXILIARY_DROPOUT,
    ) -> None:
        super().__init__()
        self._trunk: list[str] = []
        channels = stages.INPUT_CHANNELS
        heads = {}
        for stage in stages.STAGES:
            channels = self._append(stage, channels, variant, width)
            if auxiliary_heads and (head := stages.AUXILIARY_HEADS.get(stage.name)):
                heads[head] = layers.AuxiliaryHead(variant, channels, num_classes, width, auxiliary_dropout)
        self._heads = dict(stages.AUXILIARY_HEADS) if auxiliary_heads else {}
        for name, module in heads.items():
            self.add_module(name, module)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Height and width are 224 in the paper; any size from 32 on works."""
        auxiliary: dict[str, Tensor] = {}
        for name in self._trunk:
            x = self.get_submodule(name)(x)
            if self.training and name in self._heads:
                head = self._heads[name]
                auxiliary[head] = self.get_submodule(head)(x)
        logits = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        if auxiliary:
            return GoogLeNetOutputs(logits, auxiliary["aux2"], auxiliary["aux1"])
        return logits  # type: ignore[no-any-return]  # a module's call is untyped

    def feature_maps(self, x: Tensor, stages_of_maps: Collection[str]) -> list[Tensor]:
        """The outputs [B, channels, height, width] of some stages, in the order of the trunk.

        Args:
            x: normalised float [B, 3, H, W].
            stages_of_maps: names of stages; what comes after the last of them is not computed.
        """
        maps = []
        for name in self._trunk:
            x = self.get_submodule(name)(x)
            if name in stages_of_maps:
                maps.append(x)
            if len(maps) == len(stages_of_maps):
                break
        return maps

    def _append(self, stage: stages.Stage, in_channels: int, variant: Variant, width: float) -> int:
        """Add one row of the table to the trunk and return its output channels."""
        out_channels = in_channels
        module: nn.Module
        match stage:
            case stages.MaxPool(name, kernel, stride):
                kernel = variant.last_pool_kernel if name == "maxpool4" else kernel
                module = nn.MaxPool2d(kernel, stride, ceil_mode=variant.ceil_mode)
            case stages.Convolution(name, kernel, stride, channels):
                out_channels = stages.scaled(channels, width)
                module = layers.ConvolutionUnit(variant, in_channels, out_channels, kernel, stride)
            case stages.Inception(name):
                module = layers.InceptionModule(variant, in_channels, stage, width)
                out_channels = module.out_channels
        self._append_module(name, module)
        # Section 5's network normalises after the first pool and after the 3×3 convolution.
        if not (variant.batch_norm or variant.linear) and stage.name in ("maxpool1", "conv3"):
            self._append_module(f"{stage.name}_lrn", layers.LocalResponseNorm(*layers.LRN))
        return out_channels

    def _append_module(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self._trunk.append(name)


def _initialise(module: nn.Module) -> None:
    """He's initialisation for what a ReLU follows; the paper does not state its own."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
