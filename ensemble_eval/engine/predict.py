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
# cuDNN's message when no algorithm gets the memory that it needs, or (seldom) when none has a kernel for the GPU.
_NO_ALGORITHM = re.compile("unable to find an engine|unable to find a valid cuDNN algorithm", re.IGNORECASE)


class Predict(Protocol):
    """One member, ready to run."""

    def __call__(self, crop_batch: Tensor, /) -> Tensor:
        """Compute the class probabilities of a batch of crops.

        Args:
            crop_batch: uint8 [B, 3, size, size], RGB, on the member's device.

        Returns:
            float32 [B, classes], each row a softmax.

        Raises:
            OutOfDeviceMemoryError: The batch does not fit into memory; a smaller one may.
        """
        ...


class Forward:
    """Runs members of an ensemble on a batch, one after the other.

    Args:
        predicts: The `Predict` functions of the ensemble's members, in order.
        before_forward: Called before each member runs. An exception that it raises ends the run.
    """

    def __init__(self, predicts: Iterable[Predict], before_forward: Callable[[], None] = lambda: None) -> None:
        self._predicts = tuple(predicts)
        self._before_forward = before_forward

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """Compute the class probabilities of a batch of crops with some members.

        Args:
            crop_batch: uint8 [B, 3, size, size] on the device. The caller reuses the tensor for other crops.
            members: Indices into the ensemble.

        Returns:
            float32 [members, B, classes] on the device; the next call may overwrite it.

        Raises:
            OutOfDeviceMemoryError: The batch does not fit into memory; a smaller one may.
        """
        # A new tensor over the same memory, because the batch normalised last is recognised by its tensor.
        crop_batch = crop_batch.view_as(crop_batch)
        outputs = []
        for member in members:
            self._before_forward()
            outputs.append(self._predicts[member](crop_batch))
        return torch.stack(outputs)

    def release(self) -> None:
        """Release the memory that is kept for batches; the caller has waited until the device is idle."""

    def new_notices(self) -> list[str]:
        """Return the sentences for the user that are new since the last call."""
        return []


class OutOfDeviceMemoryError(EnsembleEvalError):
    """A batch did not fit into the memory of its device."""


@contextmanager
def errors_of_member(what: str) -> Iterator[None]:
    """Convert any error of third-party code in the block to an `InputError`; errors of this package pass.

    Raises:
        InputError: `what` raised an error, which is the cause of this one.
    """
    try:
        yield
    except EnsembleEvalError:
        raise
    except Exception as error:
        raise InputError(f"{what} raises {type(error).__name__} ({first_line(error)}); fix it") from error


@contextmanager
def memory_errors_of(what: str) -> Iterator[None]:
    """Convert the errors with which libraries report that memory ran out to one error.

    Raises:
        OutOfDeviceMemoryError: `what` did not fit into memory.
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
    # torch has a subclass of RuntimeError for its own CUDA memory. The CPU's allocator, OpenVINO, the driver (when
    # memory is pinned), cuBLAS and cuDNN all raise a plain RuntimeError.
    known = MemoryError | torch.OutOfMemoryError | OutOfDeviceMemoryError
    return isinstance(error, known) or bool(_CANNOT_ALLOCATE.search(str(error)))


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes.

    For example, the capture of a CUDA graph that ran out of memory raises an error of its own.
    """
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
