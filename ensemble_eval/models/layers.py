"""The blocks that GoogLeNet's stage table is built from.

Submodule names are torchvision's where it has the block, so that a state dict fits key for key.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ensemble_eval.models import stages

# Size, alpha, beta and k as Caffe's `bvlc_googlenet`, the authors' own release of the network, sets them.
LRN = (5, 1e-4, 0.75, 1.0)
BATCH_NORM_EPS = 1e-3


class LocalResponseNorm(nn.LocalResponseNorm):
    """Section 5's normalisation over adjacent channels, in float32 whatever torch's autocast is at.

    It squares its input, and in float16 the square of anything beyond 255 is infinite: without an error, the
    quotient would be zero.
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


@dataclass(frozen=True)
class Variant:
    """What distinguishes one GoogLeNet from another; the stages and channel counts are the same.

    The defaults are the paper's.

    Attributes:
        batch_norm: batch norm and no biases; otherwise biases and the paper's local response normalisation.
        large_kernel: kernel of the branch that the paper calls 5×5.
        last_pool_kernel: kernel of the pool before 5a (stride 2).
        adaptive_auxiliary_pool: pool the auxiliary heads' input adaptively to 4×4, not 5×5 with stride 3.
        reductions: Figure 2(b); without them Figure 2(a), the naive module.
        same_padding: pad the first convolution as TensorFlow does.
        ceil_mode: round the output sizes of max pools up.
        linear: PaddleClas's form: no biases and no LRN, and ReLUs after the modules' concatenations alone.
    """

    batch_norm: bool = False
    large_kernel: int = 5
    last_pool_kernel: int = 3
    adaptive_auxiliary_pool: bool = False
    reductions: bool = True
    same_padding: bool = False
    ceil_mode: bool = True
    linear: bool = False


class ConvolutionUnit(nn.Module):
    """Convolution and ReLU: with batch norm between them and no bias, or with a bias as in the paper.

    Args:
        variant: says what is there beside the convolution.
        in_channels, out_channels, kernel, stride: of the convolution.
    """

    def __init__(
        self, variant: Variant, in_channels: int, out_channels: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        bias = not (variant.batch_norm or variant.linear)
        sizes = (in_channels, out_channels, kernel, stride)
        # With a stride of 1 TensorFlow pads equally on both sides too.
        same_padding = variant.same_padding and stride > 1
        self.conv = (
            SameConvolution(*sizes, bias=bias) if same_padding else nn.Conv2d(*sizes, kernel // 2, bias=bias)
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS) if variant.batch_norm else None
        self._activation = not variant.linear

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return functional.relu(x, inplace=True) if self._activation else x

    def extra_repr(self) -> str:
        """Say what no submodule shows: networks are compared by their printed form."""
        return "" if self._activation else "no activation"


class InceptionModule(nn.Module):
    """Four branches of one input, concatenated along the channels: Figure 2(b), with 1×1 reductions.

    Without reductions it is Figure 2(a): 1×1, 3×3 and 5×5 on the whole input, and the pool's channels passed on
    unprojected. That adds all input channels to the output, so stages grow from one to the next: the reason that
    the paper gives for the reductions.

    Args:
        variant: of the network. In PaddleClas's form one ReLU follows the concatenation.
        in_channels: of the input.
        row: of Table 1.
        width: multiplies the row's channel counts.
    """

    def __init__(self, variant: Variant, in_channels: int, row: stages.Inception, width: float) -> None:
        super().__init__()
        self._linear = variant.linear
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, projection = row.scaled(width)
        unit, large_kernel = partial(ConvolutionUnit, variant), variant.large_kernel
        pool = nn.MaxPool2d(3, stride=1, padding=1)
        branches: list[nn.Module] = [unit(in_channels, conv1x1, 1)]
        if variant.reductions:
            branches += [
                nn.Sequential(unit(in_channels, reduce3x3, 1), unit(reduce3x3, conv3x3, 3)),
                nn.Sequential(unit(in_channels, reduce5x5, 1), unit(reduce5x5, conv5x5, large_kernel)),
                nn.Sequential(pool, unit(in_channels, projection, 1)),
            ]
        else:
            branches += [unit(in_channels, conv3x3, 3), unit(in_channels, conv5x5, large_kernel), pool]
        self.branch1, self.branch2, self.branch3, self.branch4 = branches
        self.out_channels = conv1x1 + conv3x3 + conv5x5 + (projection if variant.reductions else in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, H, W] -> [B, out_channels, H, W]."""
        x = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)
        return functional.relu(x, inplace=True) if self._linear else x


class AuxiliaryHead(nn.Module):
    """Figure 3: pool to 4×4, 1×1 convolution, two fully connected layers; for training only."""

    def __init__(self, variant: Variant, in_channels: int, num_classes: int, width: float, dropout: float) -> None:
        super().__init__()
        # Where pools round down, as PaddleClas's do, the maps have 13×13 cells, and the head's pool makes it 3×3.
        pooled = stages.AUXILIARY_POOLED_SIZE if variant.ceil_mode else 3
        convolved = stages.scaled(stages.AUXILIARY_CONVOLUTION_CHANNELS, width)
        hidden = stages.scaled(stages.AUXILIARY_HIDDEN_UNITS, width)
        self.pool = nn.AdaptiveAvgPool2d(pooled) if variant.adaptive_auxiliary_pool else nn.AvgPool2d(5, stride=3)
        # PaddleClas's heads have a bias and a ReLU.
        self.conv = ConvolutionUnit(replace(variant, linear=False), in_channels, convolved, 1)
        self.fc1 = nn.Linear(convolved * pooled**2, hidden)
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
            conv, bn = module.conv, module.bn
            assert bn.running_mean is not None
            assert bn.running_var is not None
            # torch's `fuse_conv_bn_eval` would copy every convolution.
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            module.bn = None
    return network
