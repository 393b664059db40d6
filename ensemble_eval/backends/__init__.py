"""From a member to the function that the engine calls: uint8 crops in, float32 probabilities out."""

from ensemble_eval.backends.choice import (
    BACKENDS,
    Backend,
    PredictMaker,
    choose_backend,
    compiles,
    default_batch_size,
)
from ensemble_eval.backends.predict import PRECISIONS, OutOfDeviceMemoryError, Precision, Predict, memory_errors_of

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "OutOfDeviceMemoryError",
    "Precision",
    "Predict",
    "PredictMaker",
    "choose_backend",
    "compiles",
    "default_batch_size",
    "memory_errors_of",
]
