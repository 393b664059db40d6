"""Networks for inference only: batch norm folded into the convolutions before it."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ensemble_eval.models.layers import ConvolutionUnit


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
