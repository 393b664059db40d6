"""The backends by name."""

import importlib.util
from typing import Literal, get_args

import torch
from torch import nn

from ensemble_eval.backends.predict import Precision, Predict
from ensemble_eval.backends.torch_eager import TorchEager
from ensemble_eval.errors import InputError
from ensemble_eval.manifests import Member

Backend = Literal["torch", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


def make_predict(
    backend: Backend,
    member: Member,
    network: nn.Module,
    num_classes: int,
    device: torch.device,
    precision: Precision,
) -> Predict:
    """A member's function for the engine.

    Args:
        backend: what runs the network.
        member: whose name and preprocessing.
        network: its network, loaded, in eval mode.
        num_classes: what the network must return.
        device: where it runs.
        precision: of its convolutions.

    Raises:
        InputError: the backend is not installed or does not run on this device.
    """
    if backend == "torch":
        return TorchEager(member.name, network, member.input, num_classes, device, precision)
    if device.type != "cpu":
        raise InputError(f"the backend openvino runs on the CPU, not on {device}; choose --backend torch")
    if importlib.util.find_spec("openvino") is None:
        raise InputError(
            "the backend openvino is not installed; pip install 'ensemble-eval[cpu]', or --backend torch"
        )
    # Only here: an extra, and a second to import.
    from ensemble_eval.backends.openvino import OpenVino

    return OpenVino(member.name, network, member.input, num_classes, precision)
