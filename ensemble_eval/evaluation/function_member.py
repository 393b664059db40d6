"""A member that is a function of the user's: it needs no backend, and what it returns is checked."""

import torch
from torch import Tensor

from ensemble_eval.engine.predict import errors_of_member, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.members.ensemble import PredictFunction

_TOLERANCE = 1e-3


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
        """See `Predict`.

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
