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
        name, preprocess, num_classes: of `NetworkPredict`.
        network: in eval mode, compiled or not; normalised float [B, 3, 224, 224] -> logits [B, classes].
        device: where it runs.
        precision: of the convolutions; the softmax is float32 in any case.
        cast_once: cast the weights to the precision now; `preprocess` casts the input. Otherwise torch's autocast
            casts both in each pass, layer by layer.
        capturable: whether the network asks the same of its device for every batch, whatever the pixels.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preprocess: Callable[[Tensor], Tensor],
        num_classes: int,
        device: torch.device,
        precision: Precision,
        *,
        cast_once: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(name, preprocess, num_classes)
        self.capturable = capturable
        dtype = getattr(torch, precision)
        # Channels last more than doubles eager throughput of these networks on a CPU.
        self._network = network.to(device, dtype if cast_once else None, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self._device = device
        # Kernels that somebody's network launches by itself go to torch's current device.
        self._as_current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        self._autocast_dtype = torch.float32 if cast_once else dtype

    def _logits(self, normalised: Tensor) -> Tensor:
        dtype = self._autocast_dtype
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with self._as_current, full_float32(), autocast:
            logits: Tensor = self._network(normalised)
            return logits
