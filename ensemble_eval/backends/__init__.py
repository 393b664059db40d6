"""From a member to the function that the engine calls: uint8 crops in, float32 probabilities out."""

from ensemble_eval.backends.choice import BACKENDS, Backend, make_predict
from ensemble_eval.backends.predict import PRECISIONS, OutOfDeviceMemoryError, Precision, Predict

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "OutOfDeviceMemoryError", "Precision", "Predict", "make_predict"]
