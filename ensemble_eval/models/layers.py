"""The blocks that GoogLeNet's stage table is built from.

Submodule names are torchvision's where it has the block, so that a state dict fits key for key.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensemble_eval.models import stages

# Caffe's `bvlc_googlenet`, the authors' own release of the network, sets these for its two layers.
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 1.0
BATCH_NORM_EPS = 1e-3


class LocalResponseNorm(nn.LocalResponseNorm):
    """Section 5's normalisation over neighbouring channels, in float32 whatever torch's autocast is at.

    It squares its input, and in float16 the square of anything beyond 255 is infinite: the quotient would be zero,
    which nobody would notice.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in torch)
        """float [B, channels, H, W] -> the same shape and dtype."""
        return super().forward(input.float()).to(input.dtype)


class ConvolutionUnit(nn.Module):
    """Convolution and ReLU: with batch norm between them and no bias, or with a bias as in the paper."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=not batch_norm
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return functional.relu(x, inplace=True)


class InceptionModule(nn.Module):
    """Figure 2(b): four branches with 1×1 reductions, concatenated along the channels."""

    def __init__(
        self,
        in_channels: int,
        row: stages.Inception,
        width: float,
        large_kernel: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()

        def unit(inputs: int, channels: int, kernel: int) -> ConvolutionUnit:
            return ConvolutionUnit(inputs, channels, kernel, 1, batch_norm)

        def channels(count: int) -> int:
            return stages.scaled(count, width)

        reduce3x3, reduce5x5 = channels(row.reduce3x3), channels(row.reduce5x5)
        self.branch1 = unit(in_channels, channels(row.conv1x1), 1)
        self.branch2 = nn.Sequential(unit(in_channels, reduce3x3, 1), unit(reduce3x3, channels(row.conv3x3), 3))
        self.branch3 = nn.Sequential(
            unit(in_channels, reduce5x5, 1), unit(reduce5x5, channels(row.conv5x5), large_kernel)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), unit(in_channels, channels(row.pool_projection), 1)
        )
        self.out_channels = sum(
            channels(count) for count in (row.conv1x1, row.conv3x3, row.conv5x5, row.pool_projection)
        )

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out_channels, H, W]."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class NaiveInceptionModule(nn.Module):
    """Figure 2(a): 1×1, 3×3 and 5×5 on the whole input, and the pool's channels passed on unprojected.

    The pool branch adds all input channels to the output, so stages grow from one to the next: the reason
    that the paper gives for the reductions.
    """

    def __init__(
        self,
        in_channels: int,
        row: stages.Inception,
        width: float,
        large_kernel: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        sizes = ((row.conv1x1, 1), (row.conv3x3, 3), (row.conv5x5, large_kernel))
        self.branch1, self.branch2, self.branch3 = (
            ConvolutionUnit(in_channels, stages.scaled(count, width), kernel, 1, batch_norm)
            for count, kernel in sizes
        )
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)
        self.out_channels = in_channels + sum(stages.scaled(count, width) for count, _ in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out_channels, H, W]."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class AuxiliaryHead(nn.Module):
    """Figure 3: pool to 4×4, 1×1 convolution, two fully connected layers; for training only."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        width: float,
        batch_norm: bool,
        pool: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        convolved = stages.scaled(stages.AUXILIARY_CONVOLUTION_CHANNELS, width)
        hidden = stages.scaled(stages.AUXILIARY_HIDDEN_UNITS, width)
        self.pool = pool
        self.conv = ConvolutionUnit(in_channels, convolved, 1, 1, batch_norm)
        self.fc1 = nn.Linear(convolved * stages.AUXILIARY_POOLED_SIZE**2, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, 14, 14] -> logits [B, num_classes]."""
        x = torch.flatten(self.conv(self.pool(x)), 1)
        x = self.dropout(functional.relu(self.fc1(x), inplace=True))
        logits: Tensor = self.fc2(x)
        return logits
