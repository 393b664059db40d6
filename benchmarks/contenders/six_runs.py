"""What people do: one run per row of the table, crops with Pillow, a DataLoader, eager float32."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transforms

from benchmarks import pipeline
from benchmarks.work import CROPS, Cost, Work, parser, work_from

SCHEMES = (1, 10, CROPS)


@dataclass(frozen=True)
class CroppedImages(Dataset[Tensor]):
    """Each image's first crops, float32 [crops, 3, 224, 224], normalised."""

    paths: Sequence[Path]
    crops: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        pictures = itertools.islice(pipeline.crops_of(pipeline.open_picture(self.paths[index])), self.crops)
        pixels = torch.stack([transforms.pil_to_tensor(one) for one in pictures])
        return pipeline.normalised(pixels, torch.float32)


def run(
    paths: Sequence[Path], networks: Sequence[nn.Module], crops: int, batch: int, workers: int
) -> list[Tensor]:
    """One row of the table: the mean softmax float32 [classes] of every image."""
    loader = DataLoader(CroppedImages(paths, crops), batch_size=max(1, batch // crops), num_workers=workers)
    scores: list[Tensor] = []
    for images in loader:
        flat = images.flatten(0, 1)
        total = sum(torch.softmax(network(flat), dim=1) for network in networks)
        assert isinstance(total, Tensor)
        scores += (total / len(networks)).view(*images.shape[:2], -1).mean(dim=1)
    return scores


@torch.inference_mode()
def evaluate(work: Work, networks: Sequence[nn.Module], workers: int) -> Cost:
    """Time the six runs together. Useful is what the largest of them gives; the others follow from it."""
    for network in networks:
        network(torch.zeros(work.batch, 3, pipeline.CROP_SIZE, pipeline.CROP_SIZE))
    paths = work.paths()
    scores: list[Tensor] = []
    began = time.perf_counter()
    for members, crops in itertools.product((networks[:1], networks), SCHEMES):
        scores += run(paths, members, crops, work.batch, workers)
    seconds = time.perf_counter() - began
    for one in scores:
        pipeline.require_scores(one)
    passes = (1 + len(networks)) * sum(SCHEMES) * len(paths)
    return Cost(len(paths), CROPS * len(networks) * len(paths), passes, seconds)


def main() -> None:
    """See the module."""
    options = parser()
    options.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    arguments = options.parse_args()
    work = work_from(arguments)
    evaluate(work, pipeline.load_networks(work.ensemble), arguments.workers).print()


if __name__ == "__main__":
    main()
