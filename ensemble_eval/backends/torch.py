"""The backend that always works: torch, with its own kernels or with what its compiler made of them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.settings import Precision


class TorchBackend(NetworkPredict):
    """Runs a network with torch, channels last.

    Args:
        name, preprocess, num_classes: see `NetworkPredict`.
        network: in eval mode, compiled or not; normalised float [B, 3, 224, 224] -> logits [B, classes].
        device: where it runs.
        precision: of the convolutions; the softmax is float32 in any case.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        num_classes: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        super().__init__(name, preprocess, num_classes)
        # Channels last more than doubles eager throughput of these networks on a CPU.
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self._device = device
        # Kernels that somebody's network launches by itself go to torch's current device.
        self._as_current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        self._dtype = getattr(torch, precision)

    def _logits(self, normalised: Tensor) -> Tensor:
        autocast = torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)
        with self._as_current, full_float32(), autocast:
            logits: Tensor = self._network(normalised)
            return logits


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in float32 inside, and leave torch's flags as they were found.

    By default cuDNN's convolutions round float32 to TF32's ten bits of mantissa, and
    `torch.set_float32_matmul_precision` may have let matrix products do so too, or round to bfloat16 on a CPU.
    torch has older and newer flags for this. Where they contradict each other it refuses to read the older
    ones; those are left alone then, and the newer ones decide.

    Example:
        >>> import torch
        >>> with full_float32():
        ...     torch.backends.cudnn.allow_tf32, torch.backends.cudnn.conv.fp32_precision
        (False, 'ieee')
    """
    backends: Any = torch.backends  # torch's stubs lack most of these
    on_cuda = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    operations = (*on_cuda, backends.mkldnn.matmul, backends.mkldnn.conv)
    with contextlib.ExitStack() as given_back:
        for operation in operations:
            given_back.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
        with contextlib.suppress(RuntimeError):
            given_back.callback(setattr, backends.cudnn, "allow_tf32", backends.cudnn.allow_tf32)
            backends.cudnn.allow_tf32 = False
        with contextlib.suppress(RuntimeError):
            given_back.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
