"""The members of an ensemble opened in one place: loaded, put on a device behind `predict`, and warmed up.

The backend that runs them is chosen here by its name, or by what suits the device.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from ensemble_eval.backends.conversion_cache import ConversionCache, cache_folder
from ensemble_eval.backends.network import PREPARING, FunctionMember, NetworkPredict, SelectedOutputs
from ensemble_eval.backends.torch import Compiled, missing_for_compiler, torch_logits
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict, memory_errors_of
from ensemble_eval.errors import InputError, MissingExtraError, located
from ensemble_eval.members.classes import OutputSelection, output_selection
from ensemble_eval.members.ensemble import Ensemble, Member
from ensemble_eval.members.fingerprints import network_sha256
from ensemble_eval.members.imported import GRAPH, InputFormat
from ensemble_eval.members.importers.graphs import is_onnx_file
from ensemble_eval.members.loading import load_member
from ensemble_eval.members.preprocessing import SharedPreprocessing
from ensemble_eval.models.layers import fold_batch_norm
from ensemble_eval.models.registry import ARCHITECTURES
from ensemble_eval.settings import Backend, BackendChoice, MemberSettings, Precision

if TYPE_CHECKING:
    from ensemble_eval.backends.openvino import Converter

# Crops per batch. Measured on two cores (docs/speed.md): with 16, OpenVINO is as fast as with 48, eager torch is a
# fifth to two fifths faster, and runs until decided check more often. On CUDA, where nothing was measured, the
# batch is large, and is halved if memory runs out. The numbers are fixed and not timed, because results must not
# depend on the load of the machine.
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


@dataclass(eq=False)
class PredictMaker:
    """Makes the `Predict` of each member. Members of one input format share the normalised batch.

    Args:
        backend: what runs the networks, chosen for `device`.
        num_classes: what each must return.
        device: where they run.
        precision: of their convolutions.
        size: width and height of their crops.
        cache: where conversions for OpenVINO are stored between runs; None to store none.
    """

    backend: Backend
    num_classes: int
    device: torch.device
    precision: Precision
    size: int = CROP_SIZE
    cache: ConversionCache | None = None
    _preprocessing: dict[InputFormat, SharedPreprocessing] = field(default_factory=dict, init=False)
    _converter: "Converter | None" = field(default=None, init=False)

    def __call__(self, member: Member, network: nn.Module) -> Predict:
        """The `Predict` of a member that is a network.

        Args:
            member: gives its name and its input format.
            network: the member's, loaded and in eval mode; the caller must not use it any more.

        Raises:
            InputError: the backend cannot run it in this precision.
        """
        with PREPARING:
            preprocess = self._preprocessing_of(member)
            network = fold_batch_norm(network)
            if self.backend == "openvino":
                return self._openvino(member, network, preprocess)
            if self.backend == "compiled":
                network = Compiled(network, self.device)
            cast_once = self._casts_once(member)
            logits = torch_logits(network, self.device, self.precision, cast_once=cast_once)
            capturable = self.backend == "torch" and member.arch in ARCHITECTURES
            return NetworkPredict(member.name, preprocess, self.num_classes, logits, capturable=capturable)

    def of_graph(self, member: Member) -> Predict:
        """The `Predict` of a member whose weights are a whole network in a file.

        Raises:
            InputError: the file cannot be used, or not by this backend on this device.
        """
        if self.backend != "openvino" and is_onnx_file(member.weights_file):
            # Only here: an extra, and a second to import.
            from ensemble_eval.backends.onnx_networks import onnx_network

            return self(member, onnx_network(member, self.size))
        if self.device.type != "cpu":
            raise InputError(
                f"member {member.name} is a graph of TensorFlow or TFLite, which runs on the CPU alone; "
                'choose `device="cpu"`'
            )
        choose_backend("openvino", self.device)
        with PREPARING:
            from ensemble_eval.backends.openvino import graph_predict

            preprocess = SharedPreprocessing(member.input, self.device)
            return graph_predict(member, preprocess, self.num_classes, self.precision, self.size)

    def _openvino(self, member: Member, network: nn.Module, preprocess: SharedPreprocessing) -> Predict:
        normalises = any(isinstance(module, nn.LocalResponseNorm) for module in network.modules())
        if normalises and self.precision == "float16":
            # OpenVINO would compute all layers in float16, where squares of large activations overflow.
            raise InputError(
                f"member {member.name} normalises local responses, which OpenVINO cannot do in float16; "
                'choose `precision="float32"` or bfloat16'
            )
        # Only here: an extra, and a second to import.
        from ensemble_eval.backends.openvino import Converter, OpenVinoNetwork

        self._converter = self._converter or Converter(self.size, self.cache)
        with located(f"member {member.name}"):
            compiled = OpenVinoNetwork(self._converter(network), self.precision)
        return NetworkPredict(member.name, preprocess, self.num_classes, compiled, compiled.shape_of)

    def _preprocessing_of(self, member: Member) -> SharedPreprocessing:
        # A network that is not ours might change its input in place.
        if member.arch not in ARCHITECTURES:
            return SharedPreprocessing(member.input, self.device)
        if member.input not in self._preprocessing:
            dtype = getattr(torch, self.precision) if self._casts_once(member) else torch.float32
            self._preprocessing[member.input] = SharedPreprocessing(member.input, self.device, dtype)
        return self._preprocessing[member.input]

    def _casts_once(self, member: Member) -> bool:
        """Whether weights and input are cast once, and not in each pass by torch's autocast.

        On a CPU scores stay those of earlier versions. A network that is not ours may need float32 in some layers.
        """
        return self.device.type == "cuda" and member.arch in ARCHITECTURES


@dataclass(frozen=True)
class LoadedMember:
    """A member before it is put on a device.

    Attributes:
        member: What is stated of it.
        outputs: How many probabilities it returns for a crop.
        selection: Which of them are the classes'; None where they are the classes in their order.
        network: On the CPU; None for a predict function, and for a graph, which its backend reads.
    """

    member: Member
    outputs: int
    selection: OutputSelection | None
    network: nn.Module | None


def load_members(
    ensemble: Ensemble, settings: MemberSettings, tell: Callable[[str], object]
) -> Iterator[LoadedMember]:
    """Load the members one after the other; with the last come warnings of those that are equal.

    Args:
        ensemble: The members.
        settings: Whether installed code may run.
        tell: Called with sentences that the user should see.

    Raises:
        InputError: A member's weights or outputs cannot be used.
    """
    hashes: dict[str, str] = {}
    for member in ensemble.members:
        selection = output_selection(
            member.outputs, ensemble.classes, renormalise=member.renormalise, member=member.name
        )
        outputs = selection.num_outputs if selection else ensemble.classes.count
        network = None
        if member.predict is None and member.arch != GRAPH:
            network = load_member(member, outputs, trust_python=settings.trust_python, tell=tell)
            hashes[member.name] = network_sha256(network)
        yield LoadedMember(member, outputs, selection, network)
    for sentence in same_weights(hashes):
        tell(sentence)


def same_weights(sha256: Mapping[str, str]) -> Iterator[str]:
    """Warnings of members whose tensors are equal, whatever files they came from."""
    for other, name in itertools.combinations(sha256, 2):
        if sha256[name] == sha256[other]:
            yield f"members {other} and {name} have the same weights; that is not an ensemble"


def open_members(
    ensemble: Ensemble,
    settings: MemberSettings,
    backend: Backend,
    device: torch.device,
    sizes: Sequence[int],
    tell: Callable[[str], object],
) -> dict[str, Predict]:
    """Put the members on a device, and warm each up, so that what is wrong with one shows before the work.

    Args:
        ensemble: The members.
        settings: How they are run.
        backend: What runs the networks.
        device: Where.
        sizes: The width and height of each member's crops.
        tell: Called with sentences that the user should see.

    Raises:
        InputError: A member cannot be used; it is the first of those, in their order.
    """
    folder = cache_folder() if settings.cache else None
    cache = ConversionCache(folder) if folder else None
    # Members of one number of outputs and one size share what a backend prepares.
    maker = functools.cache(
        lambda outputs, size: PredictMaker(backend, outputs, device, settings.precision, size, cache)
    )
    members: dict[str, Predict] = {}
    warm_ups: list[Callable[[], None]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="warm_up") as beside:
        for loaded, size in zip(load_members(ensemble, settings, tell), sizes, strict=True):
            predict = _predict_of(loaded, functools.partial(maker, loaded.outputs, size), device)
            # Other backends compile a network at its first batch, for that batch's shape.
            whole = backend != "torch" or isinstance(predict, FunctionMember)
            crops = (settings.batch_size or default_batch_size(device)) if whole else 1
            warm_up: Callable[[], None] = functools.partial(_run_black_batch, predict, crops, size, device)
            if backend == "openvino" and isinstance(predict, NetworkPredict):
                # It compiles while the next is loaded; others wait until all are there.
                warm_up = beside.submit(warm_up).result
            warm_ups.append(warm_up)
            selection = loaded.selection
            members[loaded.member.name] = SelectedOutputs(predict, selection, device) if selection else predict
        for warm_up in warm_ups:
            warm_up()
    return members


def _predict_of(loaded: LoadedMember, maker: Callable[[], PredictMaker], device: torch.device) -> Predict:
    member = loaded.member
    if member.predict is not None:
        return FunctionMember(member.name, member.predict, loaded.outputs, device)
    if loaded.network is None:
        return maker().of_graph(member)
    return maker()(member, loaded.network)


def _run_black_batch(predict: Predict, crops: int, size: int, device: torch.device) -> None:
    """Run one batch of black crops through a member, so that what is wrong with it shows before the work."""
    try:
        with memory_errors_of(f"a batch of {crops}"):
            run = predict.try_batch if isinstance(predict, NetworkPredict) else predict
            run(torch.zeros(crops, 3, size, size, dtype=torch.uint8, device=device))
    except OutOfDeviceMemoryError as error:
        # The engine halves batches; of a single crop there is no half.
        if crops == 1:
            raise InputError(f"{error} does not fit into the memory of {device}; use fewer models") from error
