"""The backend that always works: torch, with its own kernels or with what its compiler made of them."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ensemble_eval.backends.full_float32 import full_float32
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
