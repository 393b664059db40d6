"""The backend that always works: torch, with its own kernels or with what its compiler made of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ensemble_eval.engine.predict import memory_errors_of, require_logits
from ensemble_eval.settings import Precision


class TorchBackend:
    """Runs a network with torch, channels last.

    Args:
        name: the member's name, for messages.
        network: in eval mode, compiled or not; normalised float [B, 3, 224, 224] -> logits [B, classes].
        normalise: the member's preprocessing.
        num_classes: what the network must return.
        device: where it runs.
        precision: of the convolutions; the softmax is float32 in any case.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        num_classes: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self._name = name
        # Channels last more than doubles eager throughput of these networks on a CPU.
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
        self._normalise = normalise
        self._num_classes = num_classes
        self._device = device
        self._dtype = getattr(torch, precision)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Tensor:
        """See `Predict`.

        Raises:
            InputError: the network does not return logits [B, classes].
            OutOfDeviceMemoryError: the batch does not fit; a smaller one may.
        """
        with memory_errors_of(f"member {self._name}: a batch of {len(crops)}"):
            normalised = self._normalise(crops)
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                logits = self._network(normalised)
            require_logits(self._name, logits, len(crops), self._num_classes)
            return torch.softmax(logits.float(), dim=1)
