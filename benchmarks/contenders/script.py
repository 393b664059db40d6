"""A competent script: torchvision v2, every image decoded once, eager, channels last, members in turn."""

import time
from collections.abc import Sequence

import torch
from torch import nn

from benchmarks import pipeline
from benchmarks.work import CROPS, Cost, Work, parser, work_from


def prepared(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network as it is fastest in eager torch on a CPU in that precision.

    Its weights are converted once: autocast would convert them again for every batch.
    """
    return network.to(dtype).to(memory_format=torch.channels_last)


@torch.inference_mode()
def evaluate(work: Work, networks: Sequence[nn.Module]) -> Cost:
    """Time one pass over the images."""
    dtype = pipeline.dtype_of(work)
    pixels = torch.zeros(work.batch, 3, pipeline.CROP_SIZE, pipeline.CROP_SIZE, dtype=dtype)
    for network in networks:
        network(pixels.contiguous(memory_format=torch.channels_last))
    paths = work.paths()
    began = time.perf_counter()
    scores = [pipeline.mean_scores(path, networks, work.batch, dtype) for path in paths]
    seconds = time.perf_counter() - began
    for one in scores:
        pipeline.require_scores(one)
    passes = CROPS * len(networks) * len(paths)
    return Cost(len(paths), passes, passes, seconds)


def main() -> None:
    """See the module."""
    work = work_from(parser().parse_args())
    networks = pipeline.load_networks(work.ensemble)
    evaluate(work, [prepared(network, pipeline.dtype_of(work)) for network in networks]).print()


if __name__ == "__main__":
    main()
