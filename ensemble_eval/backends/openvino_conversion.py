"""From torch networks to OpenVINO models: converted once for all members of one shape."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.jit._trace import TracerWarning

from ensemble_eval.backends.silent_openvino import PrePostProcessor, openvino
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.errors import InputError, first_line
from ensemble_eval.models.googlenet import GoogLeNet


class Converter:
    """Converts networks; of several GoogLeNets that differ in nothing but weights, only the first.

    Conversion traces the network and takes seconds; putting other weights into its outcome does not.
    """

    def __init__(self) -> None:
        self._templates: dict[str, _Template] = {}

    def __call__(self, network: nn.Module) -> openvino.Model:
        """The model of a network: float32 [B, 224, 224, 3], channels last -> logits [B, classes].

        Args:
            network: in eval mode, on the CPU; normalised float [B, 3, 224, 224] -> logits [B, classes].

        Raises:
            InputError: the network cannot be converted.
        """
        # Of somebody else's network, its printed form may not say all that its outputs depend on.
        shape = repr(network) if type(network) is GoogLeNet else ""
        if template := self._templates.get(shape):
            return template.with_weights_of(network)
        model = _converted(network)
        parameters = _parameters_of_constants(model, network) if shape else None
        if parameters is not None:
            self._templates[shape] = _Template(model, parameters)
        return model


@dataclass(frozen=True)
class _Template:
    """A model, and for each of its constants that is a parameter of the network: which."""

    model: openvino.Model
    parameters: Mapping[str, str]

    def with_weights_of(self, network: nn.Module) -> openvino.Model:
        model = self.model.clone()
        arrays = _arrays(network)
        for constant in _float_constants(model):
            values = arrays[self.parameters[constant.get_friendly_name()]].reshape(constant.data.shape)
            other = openvino.op.Constant(values)
            other.set_friendly_name(constant.get_friendly_name())
            for reader in constant.output(0).get_target_inputs():
                reader.replace_source_output(other.output(0))
        return model


def _parameters_of_constants(model: openvino.Model, network: nn.Module) -> dict[str, str] | None:
    """Names of parameters by name of constant, told by their values; None where these leave a doubt."""
    arrays = _arrays(network)
    found = {}
    for constant in _float_constants(model):
        values = constant.data.ravel()
        equal = [name for name, array in arrays.items() if np.array_equal(values, array.ravel())]
        if len(equal) != 1:
            return None
        found[constant.get_friendly_name()] = equal[0]
    # A name that stands for two, or a parameter that went elsewhere, would leave old weights in place.
    return found if sorted(found.values()) == sorted(arrays) else None


def _float_constants(model: openvino.Model) -> Iterator[openvino.Node]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.f32:
            yield node


def _arrays(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _converted(network: nn.Module) -> openvino.Model:
    example = torch.zeros(2, 3, CROP_SIZE, CROP_SIZE)
    shape = (-1, 3, CROP_SIZE, CROP_SIZE)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if type(network) is not GoogLeNet:
                # What depends on the pixels' values in Python would be frozen to what black crops take.
                warnings.simplefilter("error", TracerWarning)
            model = openvino.convert_model(network.eval(), example_input=example, input=[shape])
    except Exception as error:
        # Whatever somebody's network does, and whatever OpenVINO's many parts make of it.
        sentence = f"a network cannot be converted for OpenVINO ({first_line(error)})"
        raise InputError(f'{sentence}; choose `backend="torch"`') from error
    if len(model.outputs) != 1:
        raise InputError(f"a network returns {len(model.outputs)} tensors, and it must return logits alone")
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    return steps.build()
