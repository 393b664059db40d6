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


class SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME" does it: an odd number of zeros has the extra one right and
    below.

    That differs from equal padding on both sides only where the stride is above 1 and the size divides by it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in torch)
        """float [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""
        sides: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            zeros = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [zeros // 2, zeros - zeros // 2]
        return super().forward(functional.pad(input, sides))


class ConvolutionUnit(nn.Module):
    """Convolution and ReLU: with batch norm between them and no bias, or with a bias as in the paper.

    Args:
        in_channels, out_channels, kernel, stride: of the convolution.
        batch_norm: between convolution and ReLU.
        bias: of the convolution; None for one where there is no batch norm.
        same_padding: pad as TensorFlow does, not equally on both sides.
        activation: without it there is no ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        batch_norm: bool,
        *,
        bias: bool | None = None,
        same_padding: bool = False,
        activation: bool = True,
    ) -> None:
        super().__init__()
        convolution = SameConvolution if same_padding else nn.Conv2d
        self.conv = convolution(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=0 if same_padding else kernel // 2,
            bias=not batch_norm if bias is None else bias,
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS) if batch_norm else None
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return functional.relu(x, inplace=True) if self._activation else x

    def extra_repr(self) -> str:
        """Networks are told apart by their printed form, so that it says what no submodule shows."""
        return "" if self._activation else "no activation"


class InceptionModule(nn.Module):
    """Figure 2(b): four branches with 1×1 reductions, concatenated along the channels.

    With `linear`, which is PaddleClas's form, no convolution has a bias or an activation, and one ReLU follows the
    concatenation.
    """

    def __init__(
        self,
        in_channels: int,
        row: stages.Inception,
        width: float,
        large_kernel: int,
        batch_norm: bool,
        *,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self._linear = linear

        def unit(inputs: int, channels: int, kernel: int) -> ConvolutionUnit:
            bias = False if linear else None
            return ConvolutionUnit(inputs, channels, kernel, 1, batch_norm, bias=bias, activation=not linear)

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
        x = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)
        return functional.relu(x, inplace=True) if self._linear else x


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
