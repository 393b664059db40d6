"""A member whose outputs are more than the ensemble's classes, or stand in another order."""

import torch
from torch import Tensor

from ensemble_eval.engine.predict import Predict
from ensemble_eval.members.classes import OutputSelection


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
        """See `Predict`."""
        probabilities = self._predict(crop_batch).index_select(1, self._indices)
        return probabilities / probabilities.sum(dim=1, keepdim=True) if self._renormalised else probabilities
