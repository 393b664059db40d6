"""ttach, a library for test-time augmentation, as near to the 144 crops as its user comes: 120 of them.

Five crops, their mirrors and four sizes are its transforms; the three squares go in as a batch of three, in
place of three images. What it cannot express:

- the whole square resized to 224 beside crops of it: its transforms are a product, each applied in every
  combination, so 24 of the 144 are missing;
- squares of a picture that is no square: they are cut before it;
- views in one batch: it runs one forward pass per view, here of three crops;
- antialiased resizing: it is torch's plain interpolation, from the full image and again for every view.
"""

import time
from pathlib import Path

import torch
import ttach
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from benchmarks import pipeline
from benchmarks.contenders.script import prepared
from benchmarks.work import Cost, Work, parser, work_from


class MeanSoftmax(nn.Module):
    """The ensemble as one network, so that ttach makes every view once: float32 in, probabilities out."""

    def __init__(self, networks: list[nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.networks = nn.ModuleList(prepared(network, dtype) for network in networks)
        self._dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised float32 [B, 3, 224, 224] -> float32 [B, classes]."""
        pixels = pixels.to(self._dtype, memory_format=torch.channels_last)
        return torch.stack([network(pixels).float().softmax(dim=1) for network in self.networks]).mean(dim=0)


def views() -> ttach.Compose:
    """4 sizes × 2 mirrors × 5 crops."""
    sizes = [(scale, scale) for scale in pipeline.SCALES]
    resize = ttach.Resize(sizes, interpolation="bilinear", align_corners=False)
    return ttach.Compose([resize, ttach.HorizontalFlip(), ttach.FiveCrops(pipeline.CROP_SIZE, pipeline.CROP_SIZE)])


def squares(path: Path) -> Tensor:
    """The three squares of one image, normalised float32 [3, 3, side, side]."""
    picture = transforms.pil_to_tensor(pipeline.open_picture(path))
    side = min(picture.shape[1:])
    return pipeline.normalised(torch.stack(list(pipeline.squares_of(picture, side))), torch.float32)


@torch.inference_mode()
def evaluate(work: Work, networks: list[nn.Module]) -> Cost:
    """Time one pass over the images."""
    transforms_of_ttach = views()
    ensemble = MeanSoftmax(networks, pipeline.dtype_of(work))
    ensemble(torch.zeros(3, 3, pipeline.CROP_SIZE, pipeline.CROP_SIZE))
    predict = ttach.ClassificationTTAWrapper(ensemble, transforms_of_ttach, merge_mode="mean")
    paths = work.paths()
    began = time.perf_counter()
    scores = [predict(squares(path)).mean(dim=0) for path in paths]
    seconds = time.perf_counter() - began
    for one in scores:
        pipeline.require_scores(one)
    passes = 3 * len(transforms_of_ttach) * len(networks) * len(paths)
    return Cost(len(paths), passes, passes, seconds)


def main() -> None:
    """See the module. There is no choice of a batch here: ttach's own is one view."""
    work = work_from(parser().parse_args())
    evaluate(work, pipeline.load_networks(work.ensemble)).print()


if __name__ == "__main__":
    main()
