"""The backends by name, and which of them suits a device."""

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import nn

from ensemble_eval.backends.conversion_cache import ConversionCache
from ensemble_eval.backends.network import PREPARING
from ensemble_eval.backends.torch import Compiled, TorchBackend, missing_for_compiler
from ensemble_eval.engine.predict import Predict
from ensemble_eval.errors import InputError, MissingExtraError, located
from ensemble_eval.members.ensemble import Member, weights_of
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.importers.graphs import is_onnx_file
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.layers import fold_batch_norm
from ensemble_eval.models.registry import ARCHITECTURES
from ensemble_eval.settings import Backend, BackendChoice, Precision

if TYPE_CHECKING:
    from ensemble_eval.backends.openvino_conversion import Converter

# Crops per batch. Measured on two cores (docs/speed.md): OpenVINO is as fast with 16 as with 48, eager torch a
# fifth to two fifths faster, and until-decided runs check more often. On CUDA, where nothing was measured, the
# batch is large and halves itself if memory runs out. Fixed numbers, not timings: results must not depend on
# load.
_BATCH_SIZE = {"cpu": 16, "cuda": 288}


def choose_backend(name: BackendChoice, device: torch.device) -> Backend:
    """The backend called `name`; `auto` takes OpenVINO on a CPU where it is installed, and torch elsewhere.

    Raises:
        InputError: it is not installed or does not run on this device.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if name == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    if name == "openvino" and device.type != "cpu":
        raise InputError(f'the backend openvino runs on the CPU, not on {device}; choose `backend="torch"`')
    if name == "compiled" and (missing := missing_for_compiler(device)):
        raise InputError(f"the backend compiled needs {missing}")
    if name == "openvino" and not installed:
        raise MissingExtraError("the backend openvino is not installed", "cpu", ', or choose `backend="torch"`')
    return name


def default_batch_size(device: torch.device) -> int:
    """Crops per batch to start with."""
    return _BATCH_SIZE[device.type]


class PredictMaker:
    """Makes the members' functions for the engine; members of one preprocessing share the normalised batch.

    Args:
        backend: what runs the networks, chosen for `device`.
        num_classes: what each must return.
        device: where they run.
        precision: of their convolutions.
        cache: where conversions for OpenVINO are kept between runs; None to keep none.
    """

    def __init__(
        self,
        backend: Backend,
        num_classes: int,
        device: torch.device,
        precision: Precision,
        *,
        cache: ConversionCache | None = None,
    ) -> None:
        self._backend = backend
        self._num_classes = num_classes
        self._device = device
        self._precision = precision
        self._cache = cache
        self._preprocessing: dict[InputFormat, SharedPreprocessing] = {}
        self._converter: Converter | None = None

    def __call__(self, member: Member, network: nn.Module) -> Predict:
        """A member's function.

        Args:
            member: whose name and preprocessing.
            network: its network, loaded, in eval mode; it belongs to the function from now on.

        Raises:
            InputError: the backend cannot run it in this precision.
        """
        with PREPARING:
            preprocess = self._preprocessing_of(member)
            network = fold_batch_norm(network)
            if self._backend == "openvino":
                return self._openvino(member, network, preprocess)
            if self._backend == "compiled":
                network = Compiled(network, self._device)
            return TorchBackend(
                member.name,
                network,
                preprocess,
                self._num_classes,
                self._device,
                self._precision,
                cast_once=self._casts_once(member),
                capturable=self._backend == "torch" and member.arch in ARCHITECTURES,
            )

    def of_graph(self, member: Member) -> Predict:
        """The function of a member whose weights are a whole network in a file.

        Raises:
            InputError: the file cannot be used, or not by this backend on this device.
        """
        if self._backend != "openvino" and is_onnx_file(weights_of(member)):
            # Only here: an extra, and a second to import.
            from ensemble_eval.backends.onnx_networks import onnx_network

            return self(member, onnx_network(member))
        if self._device.type != "cpu":
            raise InputError(
                f"member {member.name} is a graph of TensorFlow or TFLite, which runs on the CPU alone; "
                'choose `device="cpu"`'
            )
        choose_backend("openvino", self._device)
        with PREPARING:
            from ensemble_eval.backends.openvino import GraphFile

            preprocess = SharedPreprocessing(member.input, self._device)
            return GraphFile(member, preprocess, self._num_classes, self._precision)

    def _openvino(self, member: Member, network: nn.Module, preprocess: SharedPreprocessing) -> Predict:
        normalises = any(isinstance(module, nn.LocalResponseNorm) for module in network.modules())
        if normalises and self._precision == "float16":
            # It would compute all layers in float16, and squares of large activations overflow there.
            raise InputError(
                f"member {member.name} normalises local responses, which OpenVINO cannot do in float16; "
                'choose `precision="float32"` or bfloat16'
            )
        # Only here: an extra, and a second to import.
        from ensemble_eval.backends.openvino import OpenVino
        from ensemble_eval.backends.openvino_conversion import Converter

        self._converter = self._converter or Converter(self._cache)
        with located(f"member {member.name}"):
            model = self._converter(network)
        return OpenVino(member.name, model, preprocess, self._num_classes, self._precision)

    def _preprocessing_of(self, member: Member) -> SharedPreprocessing:
        # Someone else's network might work on its input in place.
        if member.arch not in ARCHITECTURES:
            return SharedPreprocessing(member.input, self._device)
        if member.input not in self._preprocessing:
            dtype = getattr(torch, self._precision) if self._casts_once(member) else torch.float32
            self._preprocessing[member.input] = SharedPreprocessing(member.input, self._device, dtype)
        return self._preprocessing[member.input]

    def _casts_once(self, member: Member) -> bool:
        """Whether weights and input are cast before the network and not by it.

        On a CPU scores stay those of earlier versions. Somebody else's network may mean some layers to be float32.
        """
        return self._device.type == "cuda" and member.arch in ARCHITECTURES
