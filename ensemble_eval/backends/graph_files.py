"""Members that are graphs of another framework, run as they are by OpenVINO on the CPU."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ensemble_eval.backends.network import in_batches_of
from ensemble_eval.backends.openvino import OpenVino, PrePostProcessor, core, openvino
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.errors import InputError, first_names, refusing
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.settings import Precision

# What may stand between a softmax and the output without changing a value.
_RESHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Convert"}


class GraphFile(OpenVino):
    """Runs a classifier graph of ONNX, TFLite or TensorFlow with one image input.

    Args:
        member: its weights are the graph; `options` may name one of several outputs as `output`.
        preprocess: of `NetworkPredict`.
        num_outputs: what the graph must return.
        precision: of the convolutions.

    Raises:
        InputError: OpenVINO cannot read the graph, or it is no classifier of one image.
    """

    def __init__(
        self, member: Member, preprocess: Callable[[Tensor], Tensor], num_outputs: int, precision: Precision
    ) -> None:
        model = _logits_of(_read(weights_of(member)), member)
        # A graph may be written for batches of one size.
        batch = model.inputs[0].partial_shape[0]
        self._own_batch = batch.get_length() if batch.is_static else None
        super().__init__(member.name, _channels_last(model, member), preprocess, num_outputs, precision)

    def _logits(self, normalised: Tensor) -> Tensor:
        def run(whole: Tensor) -> Tensor:
            return super(GraphFile, self)._logits(whole.contiguous(memory_format=torch.channels_last))

        return in_batches_of(self._own_batch, normalised, run)


def _read(path: Path) -> openvino.Model:
    # Each of OpenVINO's readers has errors of its own.
    with refusing(f"the weights {path} cannot be read by OpenVINO"):
        return core().read_model(str(path))


def _logits_of(model: openvino.Model, member: Member) -> openvino.Model:
    """The graph up to what its softmax is applied to, or up to its output where it has none."""
    place = f"member {member.name}: {weights_of(member)}"
    wanted = member.options.get("output")
    by_name = {
        output.get_node().get_friendly_name().partition("/sink_port")[0]: output for output in model.outputs
    }
    by_name |= {name: output for output in model.outputs for name in output.get_names()}
    if wanted is None and len(model.outputs) > 1:
        raise InputError(
            f"{place} has {len(model.outputs)} outputs ({first_names(sorted(by_name))}); "
            'name one in its options, as in options = { output = "…" }'
        )
    if wanted is not None and wanted.partition(":")[0] not in {name.partition(":")[0] for name in by_name}:
        raise InputError(f"{place} has no output {wanted!r}; it has {first_names(sorted(by_name))}")
    output = model.outputs[0]
    if wanted is not None:
        stem = wanted.partition(":")[0]
        output = next(found for name, found in by_name.items() if name.partition(":")[0] == stem)
    source = output.get_node().input_value(0)
    node = source.get_node()
    while node.get_type_name() in _RESHAPES:
        node = node.input_value(0).get_node()
    if node.get_type_name() in ("Softmax", "SoftMax", "LogSoftmax"):
        source = node.input_value(0)
    parameters = model.get_parameters()
    if len(parameters) != 1:
        raise InputError(f"{place} has {len(parameters)} inputs, and a classifier of images has one")
    return openvino.Model([source], parameters)


def _channels_last(model: openvino.Model, member: Member) -> openvino.Model:
    """The graph with the pixels' input as the backend's batches lie, float32 [B, 224, 224, 3]."""
    shape = model.inputs[0].partial_shape
    sizes = [each.get_length() if each.is_static else None for each in shape] if shape.rank.is_static else []
    layout = "NCHW" if sizes[1:2] == [3] else "NHWC" if sizes[3:4] == [3] else None
    if layout is None or any(
        size not in (None, CROP_SIZE) for size in (sizes[2:4] if layout == "NCHW" else sizes[1:3])
    ):
        raise InputError(
            f"member {member.name}: {weights_of(member)} takes {shape}, "
            f"and crops are {CROP_SIZE} by {CROP_SIZE} pixels of 3 channels"
        )
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(openvino.Type.f32)
    steps.input().model().set_layout(openvino.Layout(layout))
    for index in range(len(model.outputs)):
        steps.output(index).tensor().set_element_type(openvino.Type.f32)
    return steps.build()
