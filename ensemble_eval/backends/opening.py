"""The members of an ensemble opened in one place: loaded, put on a device behind `predict`, and warmed up."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ensemble_eval.backends.choice import PredictMaker, default_batch_size
from ensemble_eval.backends.conversion_cache import ConversionCache, cache_folder
from ensemble_eval.backends.network import NetworkPredict, SelectedOutputs
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict, errors_of_member, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.members.classes import OutputSelection, output_selection
from ensemble_eval.members.ensemble import Ensemble, Member, PredictFunction
from ensemble_eval.members.fingerprints import network_sha256
from ensemble_eval.members.imported import GRAPH
from ensemble_eval.members.loading import load_member
from ensemble_eval.settings import Backend, MemberSettings

_TOLERANCE = 1e-3


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
    tell: Callable[[str], object],
) -> dict[str, Predict]:
    """Put the members on a device, and warm each up, so that what is wrong with one shows before the work.

    Args:
        ensemble: The members.
        settings: How they are run.
        backend: What runs the networks.
        device: Where.
        tell: Called with sentences that the user should see.

    Raises:
        InputError: A member cannot be used; it is the first of those, in their order.
    """
    folder = cache_folder() if settings.cache else None
    cache = ConversionCache(folder) if folder else None
    # Members of one number of outputs share what a backend prepares.
    maker = functools.cache(
        lambda outputs: PredictMaker(backend, outputs, device, settings.precision, cache=cache)
    )
    members: dict[str, Predict] = {}
    warm_ups: list[Callable[[], None]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="warm_up") as beside:
        for loaded in load_members(ensemble, settings, tell):
            predict = _predict_of(loaded, maker, device)
            # Other backends compile a network at its first batch, for that batch's shape.
            whole = backend != "torch" or isinstance(predict, FunctionMember)
            crops = (settings.batch_size or default_batch_size(device)) if whole else 1
            warm_up: Callable[[], None] = functools.partial(_run_black_batch, predict, crops, device)
            if backend == "openvino" and isinstance(predict, NetworkPredict):
                # It compiles while the next is loaded; others wait until all are there.
                warm_up = beside.submit(warm_up).result
            warm_ups.append(warm_up)
            selection = loaded.selection
            members[loaded.member.name] = SelectedOutputs(predict, selection, device) if selection else predict
        for warm_up in warm_ups:
            warm_up()
    return members


def _predict_of(loaded: LoadedMember, maker: Callable[[int], PredictMaker], device: torch.device) -> Predict:
    member = loaded.member
    if member.predict is not None:
        return FunctionMember(member.name, member.predict, loaded.outputs, device)
    if loaded.network is None:
        return maker(loaded.outputs).of_graph(member)
    return maker(loaded.outputs)(member, loaded.network)


def _run_black_batch(predict: Predict, crops: int, device: torch.device) -> None:
    """Run one batch of black crops through a member, so that what is wrong with it shows before the work."""
    try:
        with memory_errors_of(f"a batch of {crops}"):
            run = predict.try_batch if isinstance(predict, NetworkPredict) else predict
            run(torch.zeros(crops, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device))
    except OutOfDeviceMemoryError as error:
        # The engine halves batches; of a single crop there is no half.
        if crops == 1:
            raise InputError(f"{error} does not fit into the memory of {device}; use fewer models") from error


class FunctionMember:
    """Runs a predict function as a `Predict`; its first batch shows whether it returns probabilities.

    Args:
        name: the member's name, for messages.
        function: uint8 [B, 3, 224, 224], RGB, on the device -> probabilities [B, classes].
        num_classes: how many it must return.
        device: where its outcome goes.
    """

    def __init__(self, name: str, function: PredictFunction, num_classes: int, device: torch.device) -> None:
        self._place = f"member {name}: `predict`"
        self._function = function
        self._num_classes = num_classes
        self._device = device
        self._checked = False

    def __call__(self, crops: Tensor) -> Tensor:
        """The probabilities that the function returns for a batch.

        Raises:
            InputError: the function raises an error, or returns something else than probabilities [B, classes].
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        memory_errors = memory_errors_of(f"{self._place} on a batch of {len(crops)}")
        with errors_of_member(self._place), memory_errors, torch.no_grad():
            # A copy, because all members are given the same batch, and a function may work on its own in place.
            returned = self._function(crops.clone())
        self._require_scores(returned, (len(crops), self._num_classes))
        probabilities = returned.detach().to(self._device, torch.float32)
        if not self._checked:
            self._require_probabilities(probabilities)
            self._checked = True
        return probabilities

    def _require_scores(self, returned: object, shape: tuple[int, int]) -> None:
        if not isinstance(returned, Tensor):
            raise InputError(f"{self._place} must return a tensor, not {type(returned).__name__}")
        if returned.shape != shape or not returned.is_floating_point():
            raise InputError(
                f"{self._place} must return floats {shape}, crops by classes, "
                f"not {returned.dtype} {tuple(returned.shape)}"
            )

    def _require_probabilities(self, probabilities: Tensor) -> None:
        if not bool(torch.isfinite(probabilities).all()):
            raise InputError(f"{self._place} returns NaN or infinity for black crops; mend it")
        least, total = float(probabilities.min()), float(probabilities[0].double().sum())
        off = float((probabilities.double().sum(dim=1) - 1).abs().max())
        if least < -_TOLERANCE or off > _TOLERANCE:
            raise InputError(
                f"{self._place} must return probabilities, at least 0 and summing to 1 for each crop, and these "
                f"go down to {least:.4g} and sum to {total:.4g}; apply a softmax"
            )
