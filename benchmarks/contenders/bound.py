"""The bound: the fastest engine's forward pass alone, on data that is there.

No decoding, cutting, normalising, copying or softmax; nobody who has to look at the images can be faster
with this engine. All members run in turn on one batch, as in an evaluation, so that their weights compete
for the caches.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks import pipeline
from benchmarks.work import CROPS, Cost, Work, parser, work_from
from ensemble_eval.backends.openvino import PrePostProcessor, openvino, properties

_ELEMENT_TYPES = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}


def compiled(
    core: openvino.Core, network: nn.Module, pixels: openvino.Tensor, precision: str
) -> openvino.InferRequest:
    """The network for exactly this input, bound to it.

    Args:
        core: of the process.
        network: in eval mode.
        pixels: float32 [batch, 224, 224, 3], read in place by every inference. Channels last, as the kernels
            want them: given the other way round, every inference begins by turning them.
        precision: of the convolutions.
    """
    batch, height, width, channels = pixels.shape
    shape = [batch, channels, height, width]
    with warnings.catch_warnings():
        # Tracing warns of every shape that it takes as fixed; they are fixed here.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(network, example_input=torch.zeros(shape), input=[shape])
    steps = PrePostProcessor(converted)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    config = {
        properties.hint.inference_precision: _ELEMENT_TYPES[precision],
        properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
        properties.inference_num_threads: torch.get_num_threads(),
        properties.hint.enable_cpu_pinning: False,
    }
    request = core.compile_model(steps.build(), "CPU", config).create_infer_request()
    request.set_input_tensor(pixels)
    request.infer()
    return request


def evaluate(work: Work, wait: Callable[[], None] | None = None) -> Cost:
    """Time as many batches as the crops of the images would fill; `wait` is called before the first."""
    shape = (work.batch, pipeline.CROP_SIZE, pipeline.CROP_SIZE, 3)
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    core = openvino.Core()
    shared = openvino.Tensor(pixels, shared_memory=True)
    networks = pipeline.load_networks(work.ensemble)
    requests = [compiled(core, network, shared, work.precision) for network in networks]
    images = len(work.paths())
    batches = math.ceil(CROPS * images / work.batch)
    if wait is not None:
        wait()
    began = time.perf_counter()
    for _ in range(batches):
        for request in requests:
            request.infer()
    seconds = time.perf_counter() - began
    if not all(np.isfinite(request.get_output_tensor().data).all() for request in requests):
        raise ValueError("a network's output is not finite")
    passes = batches * work.batch * len(requests)
    return Cost(images, passes, passes, seconds)


def main() -> None:
    """See the module."""
    options = parser()
    options.add_argument(
        "--wait", action="store_true", help="when all is loaded say `ready`, and begin at a line on standard input"
    )
    arguments = options.parse_args()
    evaluate(work_from(arguments), _wait_for_a_line if arguments.wait else None).print()


def _wait_for_a_line() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
