"""What is the same for every backend: from a batch of crops to probabilities of the ensemble's classes."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ensemble_eval.engine.predict import Predict, errors_of_member, memory_errors_of
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.members.classes import OutputSelection
from ensemble_eval.members.ensemble import Member, PredictFunction

_TOLERANCE = 1e-3

PREPARING = threading.RLock()
"""Held while a network is converted or compiled. The tracer of torch keeps state for the whole process, and so do
the converter and the core of OpenVINO: in two threads at once they fail, or wait for each other for good."""


@dataclass(frozen=True)
class NetworkPredict:
    """The `Predict` of a member that is a network, whichever backend runs it; the softmax is torch's, in float32.

    Args:
        name: the member's name, for messages.
        preprocess: the member's; uint8 [B, 3, S, S] -> float32 [B, 3, S, S], channels last.
        num_classes: what the network must return.
        logits: runs the network on a preprocessed batch; -> [B, classes].
        shape_of: the shape of the logits of crops [B, 3, S, S], if the backend knows it before it computes them.
        capturable: whether the network asks the same of its device for every batch, whatever the pixels.
    """

    name: str
    preprocess: Callable[[Tensor], Tensor]
    num_classes: int
    logits: Callable[[Tensor], Tensor]
    shape_of: Callable[[torch.Size], tuple[int, ...] | None] = lambda _crops: None
    capturable: bool = False

    @torch.inference_mode()
    def __call__(self, crop_batch: Tensor) -> Tensor:
        """The member's probabilities.

        Raises:
            InputError: the network raises an error or does not return logits [B, classes], or the processor lacks
                the precision.
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        with self._errors(len(crop_batch)):
            logits = self.logits(self.preprocess(crop_batch))
            self._require_logits(logits, len(crop_batch))
            return torch.softmax(logits.float(), dim=1)

    @contextlib.contextmanager
    def _errors(self, batch: int) -> Iterator[None]:
        # Errors of our own networks are our faults, and an error in the capture of a CUDA graph must keep its
        # type.
        member_errors = errors_of_member(f"member {self.name}: its network")
        raised = contextlib.nullcontext() if self.capturable else member_errors
        with raised, memory_errors_of(f"member {self.name}: a batch of {batch}"):
            yield

    def try_batch(self, crop_batch: Tensor) -> None:
        """Find out whether batches like this one can be run, which computes nothing if the backend can tell.

        Raises:
            InputError, OutOfDeviceMemoryError: as `__call__`.
        """
        with self._errors(len(crop_batch)):
            shape = self.shape_of(crop_batch.shape)
        if shape != (len(crop_batch), self.num_classes):
            self(crop_batch)

    def _require_logits(self, logits: object, batch: int) -> None:
        """Refuse a network whose output is not one score per crop and class."""
        expected = (batch, self.num_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"member {self.name} returns {given} for {batch} crops, and the ensemble's classes need "
                f"{expected}; check its options and the manifest's classes"
            )


class FunctionMember:
    """Runs a predict function as a `Predict`; its first batch shows whether it returns probabilities.

    Args:
        name: the member's name, for messages.
        function: uint8 [B, 3, S, S], RGB, on the device -> probabilities [B, classes].
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
            raise InputError(f"{self._place} returns NaN or infinity for black crops; fix it")
        least, total = float(probabilities.min()), float(probabilities[0].double().sum())
        off = float((probabilities.double().sum(dim=1) - 1).abs().max())
        if least < -_TOLERANCE or off > _TOLERANCE:
            raise InputError(
                f"{self._place} must return probabilities, at least 0 and summing to 1 for each crop, and these "
                f"go down to {least:.4g} and sum to {total:.4g}; apply a softmax"
            )


class SelectedOutputs:
    """Takes the probabilities of the ensemble's classes out of those of a member's outputs.

    Probabilities of outputs without a class are left out. Without `renormalised` the others stay as they are, so
    the probabilities of a crop may sum to less than 1.

    Args:
        predict: of the member, for all its outputs.
        selection: which of them stand for the classes.
        device: where the member runs.
    """

    def __init__(self, predict: Predict, selection: OutputSelection, device: torch.device) -> None:
        self._predict = predict
        self._indices = torch.tensor(selection.indices, device=device)
        self._renormalised = selection.renormalised
        # As of `NetworkPredict`.
        self.capturable: bool = getattr(predict, "capturable", False)

    def __call__(self, crop_batch: Tensor, /) -> Tensor:
        """The probabilities of the ensemble's classes."""
        probabilities = self._predict(crop_batch).index_select(1, self._indices)
        return probabilities / probabilities.sum(dim=1, keepdim=True) if self._renormalised else probabilities


def in_batches_of(size: int | None, batch: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a graph for batches of one size on a batch of any size: part after part, the last one padded.

    Args:
        size: the batch size that the graph is written for; None for any.
        batch: [B, ...].
        run: the graph; it returns one row for each crop, perhaps with further axes of length 1.

    Returns:
        [B, outputs].

    Example:
        >>> in_batches_of(2, torch.arange(3.0)[:, None], lambda rows: 10 * rows[..., None]).flatten().tolist()
        [0.0, 10.0, 20.0]
    """
    size = size or len(batch)
    parts = []
    for part in torch.split(batch, size):
        missing = size - len(part)
        whole = torch.cat([part, part[-1:].expand(missing, *[-1] * (part.ndim - 1))]) if missing else part
        parts.append(run(whole).reshape(size, -1)[: len(part)])
    return torch.cat(parts)


def chosen_output(member: Member, names: Collection[str], outputs: int) -> str | None:
    """The name of the output that a member's options choose; None of the only one, where they choose none.

    Args:
        member: its weights are a graph; `options` may name an output as `output`, with or without its number.
        names: of the graph's outputs.
        outputs: their number; an output may have several names.

    Raises:
        InputError: there is no such output, or none is chosen of several.
    """
    place = f"member {member.name}: {member.weights_file}"
    wanted, listed = member.options.get("output"), first_names(sorted(names))
    if wanted is None and outputs > 1:
        raise InputError(
            f"{place} has {outputs} outputs ({listed}); "
            'name one in its options, as in options = { output = "…" }'
        )
    if wanted is None or wanted in names:
        return wanted
    stem = str(wanted).partition(":")[0]
    found = next((name for name in names if name.partition(":")[0] == stem), None)
    if found is None:
        raise InputError(f"{place} has no output {wanted!r}; it has {listed}")
    return found


def channels_come_last(member: Member, inputs: int, sizes: Sequence[int], shape: object, size: int) -> bool:
    """Whether a graph takes crops as [B, S, S, 3] and not as [B, 3, S, S].

    Args:
        member: its weights are the graph.
        inputs: the number of the graph's inputs.
        sizes: of the input's dimensions, 0 where any size will do.
        shape: the same as the graph's library says it.
        size: width and height of the crops, S.

    Raises:
        InputError: it takes something else.
    """
    place = f"member {member.name}: {member.weights_file}"
    if inputs != 1:
        raise InputError(f"{place} has {inputs} inputs, and a classifier of images has one")
    last = sizes[1:2] != [3]
    sides = sizes[1:3] if last else sizes[2:4]
    if (last and sizes[3:4] != [3]) or any(side not in (0, size) for side in sides):
        raise InputError(f"{place} takes {shape}, and crops are {size} by {size} pixels of 3 channels")
    return last
