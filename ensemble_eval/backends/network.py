"""What is the same for every backend: from a batch of crops to probabilities of the ensemble's classes."""

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.predict import Predict, errors_of_member, memory_errors_of
from ensemble_eval.errors import InputError, first_names
from ensemble_eval.members.classes import OutputSelection
from ensemble_eval.members.ensemble import Member, weights_of

PREPARING = threading.RLock()
"""Held while a network is converted or compiled. The tracer of torch keeps state for the whole process, and so do
the converter and the core of OpenVINO: in two threads at once they fail, or wait for each other for good."""


class NetworkPredict(ABC):
    """The `Predict` of a member that is a network, whichever backend runs it; the softmax is torch's, in float32.

    Args:
        name: the member's name, for messages.
        preprocess: the member's; uint8 [B, 3, 224, 224] -> float32 [B, 3, 224, 224], channels last.
        num_classes: what the network must return.
    """

    capturable = False
    """Whether the network asks the same of its device for every batch, whatever the pixels."""

    def __init__(self, name: str, preprocess: Callable[[Tensor], Tensor], num_classes: int) -> None:
        self._name = name
        self._preprocess = preprocess
        self._num_classes = num_classes

    @torch.inference_mode()
    def __call__(self, crop_batch: Tensor) -> Tensor:
        """The member's probabilities.

        Raises:
            InputError: the network raises an error or does not return logits [B, classes], or the processor lacks
                the precision.
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        with self._errors(len(crop_batch)):
            logits = self._logits(self._preprocess(crop_batch))
            self._require_logits(logits, len(crop_batch))
            return torch.softmax(logits.float(), dim=1)

    @contextlib.contextmanager
    def _errors(self, batch: int) -> Iterator[None]:
        with contextlib.ExitStack() as errors:
            # Those of our own networks are ours, and the error of a CUDA graph's capture must stay what it is.
            if not self.capturable:
                errors.enter_context(errors_of_member(f"member {self._name}: its network"))
            errors.enter_context(memory_errors_of(f"member {self._name}: a batch of {batch}"))
            yield

    def try_batch(self, crop_batch: Tensor) -> None:
        """Find out whether batches like this one can be run; raises what `__call__` raises if not."""
        self(crop_batch)

    @abstractmethod
    def _logits(self, normalised: Tensor) -> Tensor:
        """What the network makes of a preprocessed batch."""

    def _require_logits(self, logits: object, batch: int) -> None:
        """Refuse a network whose output is not one score per crop and class."""
        expected = (batch, self._num_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"member {self._name} returns {given} for {batch} crops, and the ensemble's classes need "
                f"{expected}; check its options and the manifest's classes"
            )


class SelectedOutputs:
    """Takes the probabilities of the ensemble's classes out of those of a member's outputs.

    What the member gives to an output without a class is left out. Without `renormalised` the rest stays as it
    is, so that the probabilities of a crop may sum to less than 1.

    Args:
        predict: of the member, for all its outputs.
        selection: which of them stand for the classes.
        device: where the member runs.
    """

    def __init__(self, predict: Predict, selection: OutputSelection, device: torch.device) -> None:
        self._predict = predict
        self._indices = torch.tensor(selection.indices, device=device)
        self._renormalised = selection.renormalised
        # As of `TorchBackend`.
        self.capturable: bool = getattr(predict, "capturable", False)

    def __call__(self, crop_batch: Tensor, /) -> Tensor:
        """The probabilities of the ensemble's classes."""
        probabilities = self._predict(crop_batch).index_select(1, self._indices)
        return probabilities / probabilities.sum(dim=1, keepdim=True) if self._renormalised else probabilities


def in_batches_of(size: int | None, batch: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """What a graph for batches of one size makes of a batch of any size: one after the other, the last padded.

    Args:
        size: the batch size that the graph is written for; None for any.
        batch: [B, ...].
        run: what is called; its outcome has one row for each of its inputs, and may have further axes of length 1.

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
    place = f"member {member.name}: {weights_of(member)}"
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


def channels_come_last(member: Member, inputs: int, sizes: Sequence[int], shape: object) -> bool:
    """Whether a graph takes crops as [B, 224, 224, 3] and not as [B, 3, 224, 224].

    Args:
        member: its weights are the graph.
        inputs: the number of the graph's inputs.
        sizes: of the input's dimensions, 0 where any size will do.
        shape: the same as the graph's library says it.

    Raises:
        InputError: it takes something else.
    """
    place = f"member {member.name}: {weights_of(member)}"
    if inputs != 1:
        raise InputError(f"{place} has {inputs} inputs, and a classifier of images has one")
    last = sizes[1:2] != [3]
    sides = sizes[1:3] if last else sizes[2:4]
    if (last and sizes[3:4] != [3]) or any(side not in (0, CROP_SIZE) for side in sides):
        raise InputError(f"{place} takes {shape}, and crops are {CROP_SIZE} by {CROP_SIZE} pixels of 3 channels")
    return last
