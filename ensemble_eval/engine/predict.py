"""The interfaces between the engine and what runs networks: one member, and all members of a batch."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from ensemble_eval.errors import EnsembleEvalError, InputError, first_line

_CANNOT_ALLOCATE = re.compile(
    r"can't allocate memory|not enough memory|bad_alloc|could not allocate|out of memory|_ALLOC(ATION)?_FAILED",
    re.IGNORECASE,
)
# What cuDNN says when none of its algorithms finds the memory that it needs; or, seldom, has a kernel for the GPU.
_NO_ALGORITHM = re.compile("unable to find an engine|unable to find a valid cuDNN algorithm", re.IGNORECASE)


class Predict(Protocol):
    """One member, ready to run."""

    def __call__(self, crop_batch: Tensor, /) -> Tensor:
        """Class probabilities of a batch of crops.

        Args:
            crop_batch: uint8 [B, 3, 224, 224], RGB, on the member's device.

        Returns:
            float32 [B, classes], each row a softmax.

        Raises:
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        ...


class Forward:
    """Runs members of an ensemble on a batch, one after the other.

    Args:
        predicts: of the ensemble's members.
        before_forward: called before each; what it raises ends the run there.
    """

    def __init__(self, predicts: Iterable[Predict], before_forward: Callable[[], None] = lambda: None) -> None:
        self._predicts = tuple(predicts)
        self._before_forward = before_forward

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """Probabilities of some members.

        Args:
            crop_batch: uint8 [B, 3, 224, 224] on the device; the same tensor comes again with other crops.
            members: indices into the ensemble.

        Returns:
            float32 [members, B, classes] on the device; the next call may write over it.

        Raises:
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        # Memory is used again, the tensor is a new one: what was made of the last batch is known by its tensor.
        crop_batch = crop_batch.view_as(crop_batch)
        outputs = []
        for member in members:
            self._before_forward()
            outputs.append(self._predicts[member](crop_batch))
        return torch.stack(outputs)

    def release(self) -> None:
        """Release what is kept for batches; the device has finished all that was asked of it."""

    def new_notices(self) -> list[str]:
        """Sentences for the user that came up since the last call."""
        return []


class OutOfDeviceMemoryError(EnsembleEvalError):
    """A batch did not fit into the memory of its device."""


@contextmanager
def errors_of_member(what: str) -> Iterator[None]:
    """Turn whatever somebody else's code raises inside into one error; those of this package pass.

    Raises:
        InputError: `what` raised an error, which is its cause.
    """
    try:
        yield
    except EnsembleEvalError:
        raise
    except Exception as error:
        raise InputError(f"{what} raises {type(error).__name__} ({first_line(error)}); mend it") from error


@contextmanager
def memory_errors_of(what: str) -> Iterator[None]:
    """Turn running out of memory into one error, whichever way a library says it.

    Raises:
        OutOfDeviceMemoryError: `what` did not fit.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if any(map(_is_out_of_memory, _with_causes(error))):
            raise OutOfDeviceMemoryError(what) from error
        if _NO_ALGORITHM.search(str(error)):
            raise OutOfDeviceMemoryError(f"{what} ({error})") from error
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has a subclass for its own CUDA memory; the CPU's allocator, OpenVINO, the driver (pinning), cuBLAS
    # and cuDNN all raise a plain one.
    known = MemoryError | torch.OutOfMemoryError | OutOfDeviceMemoryError
    return isinstance(error, known) or bool(_CANNOT_ALLOCATE.search(str(error)))


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of: a graph's capture that ran out of memory ends with one of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
