"""From torch networks to OpenVINO models: converted once for all members of one shape, and kept for later runs."""

import base64
import contextlib
import inspect
import json
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.jit._trace import TracerWarning

from ensemble_eval.backends.conversion_cache import ConversionCache
from ensemble_eval.backends.openvino import PrePostProcessor, core, openvino
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.predict import errors_of_member
from ensemble_eval.errors import InputError, first_line
from ensemble_eval.models import googlenet, layers
from ensemble_eval.models.googlenet import GoogLeNet

# A traced GoogLeNet does not depend on the size of the picture, and a small one takes a fraction of the time.
_TRACED_SIZE = 64


class Converter:
    """Converts networks. Of several GoogLeNets that differ only in their weights, it converts only the first.

    A conversion takes half a second. To put other weights into the converted network takes much less.

    Args:
        cache: stores converted GoogLeNets without weights; None to store none.
    """

    def __init__(self, cache: ConversionCache | None = None) -> None:
        self._cache = cache
        self._templates: dict[str, _Template | None] = {}

    def __call__(self, network: nn.Module) -> openvino.Model:
        """The model of a network: float32 [B, 224, 224, 3], channels last -> logits [B, classes].

        Args:
            network: in eval mode, on the CPU; normalised float [B, 3, 224, 224] -> logits [B, classes].

        Raises:
            InputError: the network cannot be converted.
        """
        # The printed form of a network that is not ours may not show all that its outputs depend on.
        if type(network) is not GoogLeNet:
            return _converted(network)
        shape = repr(network)
        if shape not in self._templates:
            self._templates[shape] = self._template(shape, network)
        template = self._templates[shape]
        return template.filled(_arrays(network)) if template else _converted(network)

    def _template(self, shape: str, network: GoogLeNet) -> "_Template | None":
        # OpenVINO reads its own file of a network with local response normalisation as one whose scores differ in
        # their last bits (seen with 2026.4.1), so such a network is converted by each run.
        normalises = any(isinstance(module, nn.LocalResponseNorm) for module in network.modules())
        if self._cache is None or normalises:
            return _Template.of(network)
        key = _cache_key(shape)
        # What is stored may be whole and yet not from `to_bytes`.
        with contextlib.suppress(RuntimeError, ValueError, LookupError, TypeError, zlib.error):
            if (content := self._cache.get(key)) is not None:
                return _Template.from_bytes(content)
        if template := _Template.of(network):
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
    def of(cls, network: GoogLeNet) -> Self | None:
        """The template of a network; None if its constants cannot be matched to its parameters."""
        stand_in = _with_telling_weights(network)
        model = _converted(stand_in)
        parameters = _parameters_of_constants(model, stand_in)
        return cls(model, parameters) if parameters is not None else None

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


def _with_telling_weights(network: GoogLeNet) -> GoogLeNet:
    """The same network with weights that are all different and none of them 0.

    The values identify constants, and OpenVINO simplifies nothing because of particular weights, such as zeros.
    """
    stand_in = deepcopy(network)
    with torch.no_grad():
        for index, tensor in enumerate(stand_in.state_dict().values(), start=1):
            tensor.copy_(torch.linspace(index, index + 0.5, tensor.numel()).view_as(tensor) / 1000)
    return stand_in


def _parameters_of_constants(model: openvino.Model, network: nn.Module) -> dict[str, str] | None:
    """Names of parameters by name of constant, matched by their values; None if a match is not unique.

    Other constants, such as those of a normalisation, stay as they are.
    """
    arrays = _arrays(network)
    found = {}
    for constant in _float_constants(model):
        values = constant.data.ravel()
        equal = [name for name, array in arrays.items() if np.array_equal(values, array.ravel())]
        if equal:
            [found[constant.get_friendly_name()]] = equal
    # If a parameter had no constant of its own, the weights of the template would remain in the model.
    return found if sorted(found.values()) == sorted(arrays) else None


def _float_constants(model: openvino.Model) -> Iterator[openvino.Node]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f32:
            yield node


def _arrays(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _converted(network: nn.Module) -> openvino.Model:
    shape = (-1, 3, CROP_SIZE, CROP_SIZE)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(**_to_convert(network.eval()), input=[shape])
    except Exception as error:
        # The errors of OpenVINO's parts are not documented.
        _refuse_own_faults(network)
        sentence = f"its network cannot be converted for OpenVINO ({first_line(error)})"
        raise InputError(f'{sentence}; choose `backend="torch"`') from error
    if len(model.outputs) != 1:
        raise InputError(f"its network returns {len(model.outputs)} tensors, and it must return logits alone")
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()


def _refuse_own_faults(network: nn.Module) -> None:
    """Run a network that cannot be converted, so that a fault of the network itself is reported as such."""
    with errors_of_member("its network"), torch.no_grad():
        returned = network(_example())
    if not isinstance(returned, torch.Tensor):
        raise InputError(f"its network returns {type(returned).__name__}, and it must return logits alone")


def _example() -> torch.Tensor:
    return torch.zeros(2, 3, CROP_SIZE, CROP_SIZE)


def _to_convert(network: nn.Module) -> dict[str, Any]:
    """What OpenVINO takes: of our networks a trace, of others the network, which it traces and checks itself."""
    if type(network) is not GoogLeNet:
        # Python code that depends on the values of pixels would be frozen to what it does with black crops.
        warnings.simplefilter("error", TracerWarning)
        return {"input_model": network, "example_input": _example()}
    example = torch.zeros(1, 3, _TRACED_SIZE, _TRACED_SIZE)
    # Not checked: the check runs it three times, and loads torch's compiler.
    traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {"input_model": traced, "example_input": example}
