"""Computations of torch in full float32, in evaluation and training."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

_CHANGING = threading.Lock()


# Torch has one set of flags for all threads: the last one to leave restores them.
_restoring = contextlib.ExitStack()
_users = 0


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in float32 inside, and restore torch's flags afterwards.

    By default cuDNN's convolutions round float32 to TF32's ten bits of mantissa, and
    `torch.set_float32_matmul_precision` may have let matrix products do so too, or round to bfloat16 on a CPU.
    torch has older and newer flags for this. If they contradict each other, it refuses to read the older ones;
    they then stay as they are, and the newer ones decide.

    Example:
        >>> import torch
        >>> with full_float32():
        ...     torch.backends.cudnn.allow_tf32, torch.backends.cudnn.conv.fp32_precision
        (False, 'ieee')
    """
    global _users
    with _CHANGING:
        _set_flags(contextlib.ExitStack() if _users else _restoring)
        _users += 1
    try:
        yield
    finally:
        with _CHANGING:
            _users -= 1
            if not _users:
                _restoring.close()


def _set_flags(restoring: contextlib.ExitStack) -> None:
    """Set the flags, and let `restoring` restore what they are now."""
    backends: Any = torch.backends  # torch's stubs lack most of these
    on_cuda = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    operations = (*on_cuda, backends.mkldnn.matmul, backends.mkldnn.conv)
    for operation in operations:
        restoring.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
    with contextlib.suppress(RuntimeError):
        restoring.callback(setattr, backends.cudnn, "allow_tf32", backends.cudnn.allow_tf32)
        backends.cudnn.allow_tf32 = False
    with contextlib.suppress(RuntimeError):
        restoring.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
    for operation in operations:
        operation.fp32_precision = "ieee"
