"""The fast backend on a CPU: OpenVINO, which comes with the extra `[cpu]`.

Other modules import `openvino` from here: without its telemetry, and safe to use in threads. On import and at each
conversion OpenVINO posts its use to an analytics service from a forked child, and keeps a client id in the home
folder. No environment variable turns that off. Without the package `openvino_telemetry` it uses a stand-in of its
own that does nothing.
"""

import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ensemble_eval.backends.network import (
    PREPARING,
    NetworkPredict,
    channels_come_last,
    chosen_output,
    in_batches_of,
)
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.errors import InputError, refusing
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.settings import Precision

_reporting = sys.modules.get("openvino_telemetry")
# To import a module that is None here raises ImportError, as if it were not installed.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the documented way

import openvino  # noqa: E402  # only now
from openvino import properties  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402

if _reporting is not None:
    # Somebody imported OpenVINO before: it keeps the module, and asks it for this class each time.
    from openvino.tools.ovc.telemetry_stub import Telemetry

    _reporting.Telemetry = Telemetry  # type: ignore[attr-defined]

# OpenVINO fills its tables of element types when the values of a constant are first read, and lets other threads
# run in between. A thread that reads a constant then waits for the first one and blocks it (seen with 2026.4.1).
_ = openvino.op.Constant(np.zeros(1, np.float32)).data

__all__ = ["OpenVinoNetwork", "PrePostProcessor", "core", "graph_predict", "openvino", "properties"]

_ELEMENT_TYPES = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "float16": openvino.Type.f16}
# What may stand between a softmax and the output without changing a value.
_RESHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Convert"}
_SOFTMAX = {"Softmax", "SoftMax", "LogSoftmax"}


class OpenVinoNetwork:
    """Runs a network compiled for this CPU: normalised float32 [B, 3, 224, 224] -> logits [B, classes].

    Args:
        model: float32 [B, 224, 224, 3], channels last -> logits [B, classes].
        precision: of the convolutions.
    """

    def __init__(self, model: openvino.Model, precision: Precision) -> None:
        self._model = model
        self._precision = precision
        # One compiled network for each batch size that comes: static shapes are faster.
        self._request_for = lru_cache(maxsize=2)(self._compiled)

    def __call__(self, normalised: Tensor) -> Tensor:
        """The logits of a batch."""
        # The normalised batch lies channels last, and so does the model's input: nothing is copied.
        pixels = normalised.permute(0, 2, 3, 1).numpy()
        [values] = self._request_for(len(pixels)).infer([pixels], share_inputs=True).values()
        return torch.from_numpy(np.array(values, dtype=np.float32))

    def shape_of(self, batch_size: int) -> tuple[int, ...] | None:
        """The shape of the logits of a batch, if the compiled network says it."""
        shape = self._request_for(batch_size).get_compiled_model().output(0).get_partial_shape()
        return tuple(shape.to_shape()) if shape.is_static else None

    def _compiled(self, batch_size: int) -> openvino.InferRequest:
        with PREPARING:
            model = self._model.clone()
            model.reshape([batch_size, CROP_SIZE, CROP_SIZE, 3])
            config = {
                properties.hint.inference_precision: _ELEMENT_TYPES[self._precision],
                properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
                # Several processes share a machine, each with as many threads as torch has. Pinned threads of all
                # processes would share the first cores.
                properties.inference_num_threads: torch.get_num_threads(),
                properties.hint.enable_cpu_pinning: False,
            }
            try:
                compiled = core().compile_model(model, "CPU", config)
            except RuntimeError as error:
                # `ONEDNN_MAX_CPU_ISA` may forbid instructions that OpenVINO finds in the processor.
                if self._precision == "float32" or "descriptors list is empty" not in str(error):
                    raise
                raise self._no_such_precision("has no kernel for it") from error
            # Where the processor lacks a precision, OpenVINO takes another one without a word.
            taken = compiled.get_property(properties.hint.inference_precision)
            if taken != config[properties.hint.inference_precision]:
                raise self._no_such_precision(f"would compute in {taken.get_type_name()}")
            return compiled.create_infer_request()

    def _no_such_precision(self, what_openvino_does: str) -> InputError:
        return InputError(
            f"this processor has no {self._precision}: OpenVINO {what_openvino_does}; "
            'use `precision="float32"`, or `backend="torch"`'
        )


def graph_predict(
    member: Member, preprocess: Callable[[Tensor], Tensor], num_outputs: int, precision: Precision
) -> NetworkPredict:
    """The `Predict` of a member whose weights are a classifier graph of ONNX, TFLite or TensorFlow, run as it is.

    Args:
        member: its `options` may name one of several outputs as `output`.
        preprocess: of `NetworkPredict`.
        num_outputs: what the graph must return.
        precision: of the convolutions.

    Raises:
        InputError: OpenVINO cannot read the graph, or it is no classifier of one image.
    """
    # Each of OpenVINO's readers has errors of its own.
    with refusing(f"the weights {weights_of(member)} cannot be read by OpenVINO"):
        graph = core().read_model(str(weights_of(member)))
    source, parameters = _logits_of(graph, member), graph.get_parameters()
    shape = parameters[0].get_partial_shape() if parameters else openvino.PartialShape([])
    sizes = [each.get_length() if each.is_static else 0 for each in shape] if shape.rank.is_static else []
    last = channels_come_last(member, len(parameters), sizes, shape)
    steps = PrePostProcessor(openvino.Model([source], parameters))
    steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(openvino.Type.f32)
    steps.input().model().set_layout(openvino.Layout("NHWC" if last else "NCHW"))
    steps.output().tensor().set_element_type(openvino.Type.f32)
    network = OpenVinoNetwork(steps.build(), precision)
    # A graph may be written for batches of one size.
    own_batch = sizes[0] or None

    def logits(normalised: Tensor) -> Tensor:
        def run(whole: Tensor) -> Tensor:
            return network(whole.contiguous(memory_format=torch.channels_last))

        return in_batches_of(own_batch, normalised, run)

    return NetworkPredict(member.name, preprocess, num_outputs, logits, network.shape_of)


def _logits_of(graph: openvino.Model, member: Member) -> openvino.Output:
    """What a graph's softmax is applied to, or its output where it has none."""
    outputs = {
        output.get_node().get_friendly_name().partition("/sink_port")[0]: output for output in graph.outputs
    }
    outputs |= {name: output for output in graph.outputs for name in output.get_names()}
    name = chosen_output(member, outputs, len(graph.outputs))
    output = graph.outputs[0] if name is None else outputs[name]
    source = output.get_node().input_value(0)
    node = source.get_node()
    while node.get_type_name() in _RESHAPES:
        node = node.input_value(0).get_node()
    return node.input_value(0) if node.get_type_name() in _SOFTMAX else source


@lru_cache(maxsize=1)
def core() -> openvino.Core:
    """The only OpenVINO core of the process, which is never released.

    The CPU plugin of each core gives the main thread a signal stack, and restores the previous one when the core
    is released. If several cores are released in another order than they were made, a freed stack remains, and the
    next signal that Python handles ends the process with a segmentation fault (seen with 2026.4.1).
    """
    return openvino.Core()
