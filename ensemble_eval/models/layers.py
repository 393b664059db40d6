"""The blocks that GoogLeNet's stage table is built from.

Submodule names are torchvision's where it has the block, so that a state dict fits key for key.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ensemble_eval.models import stages

# Caffe's `bvlc_googlenet`, the authors' own release of the network, sets these for its two layers.
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 1.0
BATCH_NORM_EPS = 1e-3


class LocalResponseNorm(nn.LocalResponseNorm):
    """Section 5's normalisation over adjacent channels, in float32 whatever torch's autocast is at.

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
        padding, bias = 0 if same_padding else kernel // 2, not batch_norm if bias is None else bias
        self.conv = convolution(in_channels, out_channels, kernel, stride, padding, bias=bias)
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


Unit = Callable[[int, int, int], ConvolutionUnit]


class _Branches(nn.Module):
    """Four branches of one input, concatenated along the channels."""

    linear: bool

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out_channels, H, W]."""
        x = torch.cat([self.get_submodule(f"branch{number}")(x) for number in range(1, 5)], dim=1)
        return functional.relu(x, inplace=True) if self.linear else x


class InceptionModule(_Branches):
    """Figure 2(b): four branches with 1×1 reductions.

    Args:
        unit: makes a convolution of inputs, outputs and kernel.
        in_channels: of the input.
        row: of Table 1.
        width: multiplies the row's channel counts.
        large_kernel: of the branch that the paper calls 5×5.
        linear: PaddleClas's form, where the units have no activation, and one ReLU follows the concatenation.
    """

    def __init__(
        self, unit: Unit, in_channels: int, row: stages.Inception, width: float, large_kernel: int, linear: bool
    ) -> None:
        super().__init__()
        self.linear = linear
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, projection = row.scaled(width)
        self.branch1 = unit(in_channels, conv1x1, 1)
        self.branch2 = nn.Sequential(unit(in_channels, reduce3x3, 1), unit(reduce3x3, conv3x3, 3))
        self.branch3 = nn.Sequential(unit(in_channels, reduce5x5, 1), unit(reduce5x5, conv5x5, large_kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(in_channels, projection, 1))
        self.out_channels = conv1x1 + conv3x3 + conv5x5 + projection


class NaiveInceptionModule(_Branches):
    """Figure 2(a): 1×1, 3×3 and 5×5 on the whole input, and the pool's channels passed on unprojected.

    The pool branch adds all input channels to the output, so stages grow from one to the next: the reason
    that the paper gives for the reductions. Its arguments are those of `InceptionModule`.
    """

    def __init__(
        self, unit: Unit, in_channels: int, row: stages.Inception, width: float, large_kernel: int, linear: bool
    ) -> None:
        super().__init__()
        self.linear = linear
        conv1x1, _, conv3x3, _, conv5x5, _ = row.scaled(width)
        self.branch1 = unit(in_channels, conv1x1, 1)
        self.branch2 = unit(in_channels, conv3x3, 3)
        self.branch3 = unit(in_channels, conv5x5, large_kernel)
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)
        self.out_channels = in_channels + conv1x1 + conv3x3 + conv5x5


class AuxiliaryHead(nn.Module):
    """Figure 3: pool to 4×4, 1×1 convolution, two fully connected layers; for training only."""

    def __init__(
        self, in_channels: int, num_classes: int, width: float, batch_norm: bool, pool: nn.Module, dropout: float
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


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every batch norm of our networks into its convolution, in place; others are left as they are.

    Outputs change by rounding only.

    Args:
        network: in eval mode; it cannot be trained any more.

    Returns:
        The same network.
    """
    for module in network.modules():
        if isinstance(module, ConvolutionUnit) and module.bn is not None:
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = None
    return network
