"""Network architectures by name."""

from ensemble_eval.models.googlenet import GoogLeNet, GoogLeNetOutputs
from ensemble_eval.models.registry import ARCHITECTURES, build

__all__ = ["ARCHITECTURES", "GoogLeNet", "GoogLeNetOutputs", "build"]
