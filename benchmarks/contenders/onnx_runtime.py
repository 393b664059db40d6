"""The competent script with ONNX Runtime for the forward pass, float32 (it has no bfloat16 kernels for CPUs)."""

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks import pipeline
from benchmarks.work import CROPS, Cost, Work, parser, work_from


class Session:
    """One member: normalised float32 [batch, 3, 224, 224] -> logits float32 [batch, classes].

    Args:
        network: in eval mode.
        batch: the one size that will come; with it fixed the runtime plans its memory ahead.
        folder: for the exported file.
    """

    def __init__(self, network: nn.Module, batch: int, folder: Path) -> None:
        path = folder / "network.onnx"
        example = torch.zeros(batch, 3, pipeline.CROP_SIZE, pipeline.CROP_SIZE)
        torch.onnx.export(network, (example,), path, input_names=["pixels"], dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        # Its own threads do not follow OMP_NUM_THREADS; every contender gets the same number.
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self(example)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class."""
        (logits,) = self._session.run(None, {"pixels": pixels.numpy()})
        return torch.from_numpy(logits)


@torch.inference_mode()
def evaluate(work: Work, sessions: Sequence[Session]) -> Cost:
    """Time one pass over the images."""
    paths = work.paths()
    began = time.perf_counter()
    scores = [
        pipeline.mean_scores(path, sessions, work.batch, torch.float32, torch.contiguous_format) for path in paths
    ]
    seconds = time.perf_counter() - began
    for one in scores:
        pipeline.require_scores(one)
    passes = CROPS * len(sessions) * len(paths)
    return Cost(len(paths), passes, passes, seconds)


def main() -> None:
    """See the module."""
    work = work_from(parser().parse_args())
    # The exporter tells of its steps and of torch's own deprecations.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sessions = []
    for network in pipeline.load_networks(work.ensemble):
        with TemporaryDirectory() as folder:
            sessions.append(Session(network, work.batch, Path(folder)))
    evaluate(work, sessions).print()


if __name__ == "__main__":
    main()
