"""The fast backend on a CPU: OpenVINO, which comes with the extra `[cpu]`.

Networks of torch are converted, once for all members of one shape, and stored for later runs; graphs of other
frameworks run as they are.

Other modules import `openvino` from here: without its telemetry, and safe to use in threads. On import and at each
conversion it posts its use to an analytics service from a forked child, and keeps a client id in the home folder.
No environment variable turns that off. Without the package `openvino_telemetry` it uses a stand-in of its own that
does nothing.
"""

import base64
import contextlib
import inspect
import json
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from ensemble_eval.backends.conversion_cache import ConversionCache
from ensemble_eval.backends.network import (
    PREPARING,
    NetworkPredict,
    channels_come_last,
    chosen_output,
    in_batches_of,
)
from ensemble_eval.engine.predict import errors_of_member
from ensemble_eval.errors import InputError, first_line, refusing
from ensemble_eval.members.ensemble import Member
from ensemble_eval.models import googlenet, layers
from ensemble_eval.models.googlenet import GoogLeNet
from ensemble_eval.settings import Precision

_reporting = sys.modules.get("openvino_telemetry")
# To import a module that is None here raises ImportError, as if it were not installed.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the documented way

import openvino  # noqa: E402  # only now, as the next two
from openvino import properties  # noqa: E402 (the same)
from openvino.preprocess import PrePostProcessor  # noqa: E402 (the same)

if _reporting is not None:
    # Somebody imported OpenVINO before: it keeps the module, and asks it for this class each time.
    from openvino.tools.ovc.telemetry_stub import Telemetry

    _reporting.Telemetry = Telemetry  # type: ignore[attr-defined]  # a module of any name

# OpenVINO fills its tables of element types when the values of a constant are first read, and lets other threads
# run in between. A thread that reads a constant then waits for the first one and blocks it (seen with 2026.4.1).
_ = openvino.op.Constant(np.zeros(1, np.float32)).data

__all__ = ["Converter", "OpenVinoNetwork", "PrePostProcessor", "core", "graph_predict", "openvino", "properties"]

_ELEMENT_TYPES = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "float16": openvino.Type.f16}
# What may stand between a softmax and the output without changing a value.
_RESHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Convert"}
_SOFTMAX = {"Softmax", "SoftMax", "LogSoftmax"}
# A traced GoogLeNet does not depend on the size of the picture, and a small one takes a fraction of the time.
_TRACED_SIZE = 64


class OpenVinoNetwork:
    """Runs a network compiled for this CPU: normalised float32 [B, 3, S, S] -> logits [B, classes].

    Args:
        model: float32 [B, S, S, 3], channels last -> logits [B, classes].
        precision: of the convolutions.
    """

    def __init__(self, model: openvino.Model, precision: Precision) -> None:
        self._model = model
        self._precision = precision
        # One compiled network for each shape of batches that comes: static shapes are faster.
        self._request_for = lru_cache(maxsize=2)(self._compiled)

    def __call__(self, normalised: Tensor) -> Tensor:
        """The logits of a batch."""
        # The normalised batch lies channels last, and so does the model's input: nothing is copied.
        pixels = normalised.permute(0, 2, 3, 1).numpy()
        [values] = self._request_for(*pixels.shape[:2]).infer([pixels], share_inputs=True).values()
        return torch.from_numpy(np.array(values, dtype=np.float32))

    def shape_of(self, crops: torch.Size) -> tuple[int, ...] | None:
        """The shape of the logits of crops [B, 3, S, S], if the compiled network says it."""
        shape = self._request_for(crops[0], crops[2]).get_compiled_model().output(0).get_partial_shape()
        return tuple(shape.to_shape()) if shape.is_static else None

    def _compiled(self, batch_size: int, size: int) -> openvino.InferRequest:
        with PREPARING:
            model = self._model.clone()
            model.reshape([batch_size, size, size, 3])
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
    member: Member, preprocess: Callable[[Tensor], Tensor], num_outputs: int, precision: Precision, size: int
) -> NetworkPredict:
    """The `Predict` of a member whose weights are a classifier graph of ONNX, TFLite or TensorFlow, run as it is.

    Args:
        member: its `options` may name one of several outputs as `output`.
        preprocess: of `NetworkPredict`.
        num_outputs: what the graph must return.
        precision: of the convolutions.
        size: width and height of the crops.

    Raises:
        InputError: OpenVINO cannot read the graph, or it is no classifier of one image.
    """
    # Each of OpenVINO's readers has errors of its own.
    with refusing(f"the weights {member.weights_file} cannot be read by OpenVINO"):
        graph = core().read_model(str(member.weights_file))
    source, parameters = _logits_of(graph, member), graph.get_parameters()
    shape = parameters[0].get_partial_shape() if parameters else openvino.PartialShape([])
    sizes = [each.get_length() if each.is_static else 0 for each in shape] if shape.rank.is_static else []
    last = channels_come_last(member, len(parameters), sizes, shape, size)
    steps = PrePostProcessor(openvino.Model([source], parameters))
    steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(openvino.Type.f32)
    steps.input().model().set_layout(openvino.Layout("NHWC" if last else "NCHW"))
    steps.output().tensor().set_element_type(openvino.Type.f32)
    network = OpenVinoNetwork(steps.build(), precision)
    # A graph may be written for batches of one size.
    own_batch = sizes[0] or None

    def run(whole: Tensor) -> Tensor:
        return network(whole.contiguous(memory_format=torch.channels_last))

    predict = NetworkPredict(member.name, preprocess, num_outputs, partial(in_batches_of, own_batch, run=run))
    return predict if own_batch else replace(predict, shape_of=network.shape_of)


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


class Converter:
    """Converts networks. Of several GoogLeNets that differ only in their weights, it converts only the first.

    A conversion takes half a second. To put other weights into the converted network takes much less.

    Args:
        size: width and height of the crops.
        cache: stores converted GoogLeNets without weights; None to store none.
    """

    def __init__(self, size: int, cache: ConversionCache | None = None) -> None:
        self._size, self._cache = size, cache
        self._templates: dict[str, _Template | None] = {}

    def __call__(self, network: nn.Module) -> openvino.Model:
        """The model of a network: float32 [B, S, S, 3], channels last -> logits [B, classes].

        Args:
            network: in eval mode, on the CPU; normalised float [B, 3, S, S] -> logits [B, classes].

        Raises:
            InputError: the network cannot be converted.
        """
        # The printed form of a network that is not ours may not show all that its outputs depend on.
        if type(network) is not GoogLeNet:
            return _converted(network, self._size)
        shape = f"{self._size} {network!r}"
        if shape not in self._templates:
            self._templates[shape] = self._template(shape, network)
        template = self._templates[shape]
        return template.filled(_arrays(network)) if template else _converted(network, self._size)

    def _template(self, shape: str, network: GoogLeNet) -> "_Template | None":
        # OpenVINO reads its own file of a network with local response normalisation as one whose scores differ in
        # their last bits (seen with 2026.4.1), so such a network is converted by each run.
        normalises = any(isinstance(module, nn.LocalResponseNorm) for module in network.modules())
        if self._cache is None or normalises:
            return _Template.of(network, self._size)
        key = _cache_key(shape)
        # What is stored may be whole and yet not from `to_bytes`.
        with contextlib.suppress(RuntimeError, ValueError, LookupError, TypeError, zlib.error):
            if (content := self._cache.get(key)) is not None:
                return _Template.from_bytes(content)
        if template := _Template.of(network, self._size):
            self._cache.put(key, template.to_bytes())
        return template


def _cache_key(shape: str) -> str:
    """All that a GoogLeNet's conversion without weights depends on: the network, and what converts it."""
    sources = [inspect.getsource(module) for module in (googlenet, layers, sys.modules[__name__])]
    versions = [torch.__version__, openvino.__version__]
    return json.dumps([shape, *versions, *sources])


@dataclass(frozen=True)
class _Template:
    """A model, and the names of the parameters of the network by the names of their constants in the model."""

    model: openvino.Model
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, network: GoogLeNet, size: int) -> Self | None:
        """The template of a network; None if its constants cannot be matched to its parameters."""
        stand_in = deepcopy(network)
        # Weights that are all different and none of them 0: the values identify constants, and OpenVINO simplifies
        # nothing because of particular weights, such as zeros.
        with torch.no_grad():
            for index, tensor in enumerate(stand_in.state_dict().values(), start=1):
                tensor.copy_(torch.linspace(index, index + 0.5, tensor.numel()).view_as(tensor) / 1000)
        model = _converted(stand_in, size)
        names = {array.tobytes(): name for name, array in _arrays(stand_in).items()}
        values = {each.get_friendly_name(): each.data.tobytes() for each in _float_constants(model)}
        # Other constants, such as those of a normalisation, stay as they are.
        parameters = {constant: names[each] for constant, each in values.items() if each in names}
        # If a parameter had no constant of its own, the weights of the template would remain in the model.
        matched = sorted(parameters.values()) == sorted(names.values())
        return cls(model, parameters) if matched else None

    def to_bytes(self) -> bytes:
        """Compressed JSON: OpenVINO's XML, its constants with zeros for weights, and the names of these."""
        shapes = {each.get_friendly_name(): each.data.shape for each in _float_constants(self.model)}
        zeros = {name: np.zeros(shapes[constant], np.float32) for constant, name in self.parameters.items()}
        with tempfile.TemporaryDirectory(prefix="ensemble-eval-") as folder:
            xml, constants = Path(folder, "model.xml"), Path(folder, "model.bin")
            openvino.serialize(self.filled(zeros), xml, constants)
            packed = base64.b64encode(zlib.compress(constants.read_bytes(), 1)).decode()
            content = {"xml": xml.read_text("utf-8"), "constants": packed, "parameters": dict(self.parameters)}
        return zlib.compress(json.dumps(content).encode())

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        described = json.loads(zlib.decompress(content))
        constants = zlib.decompress(base64.b64decode(described["constants"]))
        return cls(core().read_model(described["xml"].encode(), constants), described["parameters"])

    def filled(self, arrays: Mapping[str, NDArray[np.float32]]) -> openvino.Model:
        model = self.model.clone()
        for constant in list(_float_constants(model)):
            name = self.parameters.get(constant.get_friendly_name())
            if name is None:
                continue
            other = openvino.op.Constant(arrays[name].reshape(constant.data.shape))
            other.set_friendly_name(constant.get_friendly_name())
            for reader in constant.output(0).get_target_inputs():
                reader.replace_source_output(other.output(0))
        return model


def _float_constants(model: openvino.Model) -> Iterator[openvino.Node]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f32:
            yield node


def _arrays(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _converted(network: nn.Module, size: int) -> openvino.Model:
    shape = (-1, 3, size, size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(**_to_convert(network.eval(), size), input=[shape])
    except Exception as error:
        # The errors of OpenVINO's parts are not documented.
        _refuse_own_faults(network, size)
        model = _exported(network, size)
        if model is None:
            sentence = f"its network cannot be converted for OpenVINO ({first_line(error)})"
            raise InputError(f'{sentence}; choose `backend="torch"`') from error
    if len(model.outputs) != 1:
        raise InputError(f"its network returns {len(model.outputs)} tensors, and it must return logits alone")
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


def _exported(network: nn.Module, size: int) -> openvino.Model | None:
    """The model of a network that checks the shape of its input, as timm's transformers do; None if there is none.

    A trace cannot tell such a check from a decision that depends on pixels. `torch.export` can, and takes longer.
    """
    with contextlib.suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        any_batch = ({0: torch.export.Dim.DYNAMIC},)
        exported = torch.export.export(network.eval(), (_example(size),), dynamic_shapes=any_batch)
        return openvino.convert_model(exported, input=[(-1, 3, size, size)])
    return None


def _refuse_own_faults(network: nn.Module, size: int) -> None:
    """Run a network that cannot be converted, so that a fault of the network itself is reported as such."""
    with errors_of_member("its network"), torch.no_grad():
        returned = network(_example(size))
    if not isinstance(returned, Tensor):
        raise InputError(f"its network returns {type(returned).__name__}, and it must return logits alone")


def _example(size: int) -> Tensor:
    return torch.zeros(2, 3, size, size)


def _to_convert(network: nn.Module, size: int) -> dict[str, Any]:
    """What OpenVINO takes: of our networks a trace, of others the network, which it traces and checks itself."""
    if type(network) is not GoogLeNet:
        # Python code that depends on the values of pixels would be frozen to what it does with black crops.
        warnings.simplefilter("error", TracerWarning)
        return {"input_model": network, "example_input": _example(size)}
    example = torch.zeros(1, 3, _TRACED_SIZE, _TRACED_SIZE)
    # Not checked: the check runs it three times, and loads torch's compiler.
    traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {"input_model": traced, "example_input": example}
