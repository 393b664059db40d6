"""MultiBox: a network that proposes boxes with confidences, whatever their class (section 8).

D. Erhan et al., Scalable Object Detection using Deep Neural Networks, CVPR 2014, with convolutions in the place of
the fully connected layer, as in C. Szegedy et al., Scalable, High-Quality Object Detection, arXiv 1412.1441: each
cell of two feature maps predicts a few boxes, so that 200 boxes need no large layer and learn from few images.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ensemble_eval.models.googlenet import TORCHVISION, GoogLeNet

# The stages whose outputs predict boxes at 224 pixels, with the cells of their maps in each direction.
MAPS = {"inception4e": 14, "inception5b": 7}
# e³: no box is larger or smaller than its prior by more than this factor.
_MAX_LOG_FACTOR = 3.0
# Before training one box in a hundred is taken for an object, or the others' loss would drown everything.
_FIRST_LOGIT = -4.6


class MultiBoxOutputs(NamedTuple):
    """What the network says of each prior, in their order.

    Attributes:
        offsets: float32 [B, priors, 4], of the box's centre in the prior's sides, and the logarithms of how much
            wider and higher it is.
        logits: float32 [B, priors], of being an object.
    """

    offsets: Tensor
    logits: Tensor


class MultiBox(nn.Module):
    """The network: normalised float [B, 3, 224, 224], an image warped to a square -> `MultiBoxOutputs`.

    Args:
        shapes: for each of `MAPS`, the widths and heights of its priors, as fractions of the image.
        width: of the trunk, which is torchvision's GoogLeNet.

    Attributes:
        priors: float32 [priors, 4], left, top, right and bottom as fractions of the image, or beyond it.
    """

    priors: Tensor

    def __init__(self, shapes: Sequence[Sequence[tuple[float, float]]], width: float = 1.0) -> None:
        super().__init__()
        self.trunk = GoogLeNet(TORCHVISION, 1, width=width)
        # Nothing is classified.
        self.trunk.register_module("fc", None)
        self.heads = nn.ModuleList(
            nn.Conv2d(self.trunk.get_submodule(name).out_channels, len(of_map) * 5, 3, padding=1)  # type: ignore[arg-type]  # a module's attributes are untyped
            for name, of_map in zip(MAPS, shapes, strict=True)
        )
        for head in self.heads:
            _initialise(head)
        self.register_buffer("priors", priors_of(shapes))

    def forward(self, x: Tensor) -> MultiBoxOutputs:
        """Normalised images -> what is said of each prior."""
        found = []
        for head, features in zip(self.heads, self.trunk.feature_maps(x, MAPS), strict=True):
            # [B, shapes × 5, cells, cells] -> [B, cells × cells × shapes, 5]
            found.append(head(features).permute(0, 2, 3, 1).reshape(len(x), -1, 5))
        outputs = torch.cat(found, dim=1).float()
        return MultiBoxOutputs(outputs[..., :4], outputs[..., 4])

    def boxes(self, offsets: Tensor) -> Tensor:
        """Boxes as fractions of the image, float32 [B, priors, 4], within it.

        Args:
            offsets: of `MultiBoxOutputs`.
        """
        centres, sides = _centres_and_sides(self.priors)
        moved = centres + offsets[..., :2] * sides
        stretched = sides * offsets[..., 2:].clamp(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR).exp()
        return torch.cat([moved - stretched / 2, moved + stretched / 2], dim=-1).clamp(0, 1)


def offsets_of(boxes: Tensor, priors: Tensor) -> Tensor:
    """What the network is to say for boxes, each by its prior: the inverse of `MultiBox.boxes`.

    Args:
        boxes: float [boxes, 4], fractions of the image.
        priors: float [boxes, 4].

    Returns:
        float [boxes, 4].
    """
    centres, sides = _centres_and_sides(boxes)
    prior_centres, prior_sides = _centres_and_sides(priors)
    return torch.cat([(centres - prior_centres) / prior_sides, (sides / prior_sides).log()], dim=-1)


def priors_of(shapes: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
    """The priors of `MultiBox`, float32 [priors, 4], in the order of its outputs: by map, row, cell and shape."""
    rows = [
        ((column + 0.5) / cells, (row + 0.5) / cells, width, height)
        for cells, of_map in zip(MAPS.values(), shapes, strict=True)
        for row, column in product(range(cells), repeat=2)
        for width, height in of_map
    ]
    x, y, width, height = torch.tensor(rows, dtype=torch.float32).unbind(1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=1)


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _initialise(head: nn.Module) -> None:
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.bias[4::5] = _FIRST_LOGIT
