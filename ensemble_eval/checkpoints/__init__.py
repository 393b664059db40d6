"""Reading and writing weights: tensors only, never code."""

from ensemble_eval.checkpoints.loading import load_member, load_state_dict, tensors_sha256, weights_sha256
from ensemble_eval.checkpoints.saving import read_member, save_weights

__all__ = ["load_member", "load_state_dict", "read_member", "save_weights", "tensors_sha256", "weights_sha256"]
