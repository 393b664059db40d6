"""One batch of every member before the work, so that what is wrong with one shows at once."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch

from ensemble_eval.backends.choice import compiles, default_batch_size
from ensemble_eval.backends.network import NetworkPredict
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.engine.predict import OutOfDeviceMemoryError, Predict, memory_errors_of
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.function_member import FunctionMember
from ensemble_eval.settings import Backend, Settings


class Trials:
    """Tries members, so that what is wrong with one shows before the work: the first that fails, in their order.

    On leaving it, all have been tried; but not if loading one of them failed.

    Args:
        settings: of the run.
        backend: of the networks.
        device: of the members.
    """

    def __init__(self, settings: Settings, backend: Backend, device: torch.device) -> None:
        self._batch_size = settings.batch_size or default_batch_size(device)
        self._backend = backend
        self._device = device
        self._left: list[Callable[[], None]] = []
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="try")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with self._beside:
            if failure is None:
                for trial in self._left:
                    trial()

    def add(self, predict: Predict) -> None:
        """Try a member: OpenVINO compiles it while the next is loaded, others wait until all are there."""
        if self._backend == "openvino" and isinstance(predict, NetworkPredict):
            trial = self._beside.submit(_try, predict, self._batch_size, self._device).result
        else:
            whole = compiles(self._backend) or isinstance(predict, FunctionMember)
            trial = functools.partial(_try, predict, self._batch_size if whole else 1, self._device)
        self._left.append(trial)


def _try(predict: Predict, crops: int, device: torch.device) -> None:
    """Try one batch of black crops with a member, so that what is wrong with it shows before the work."""
    try:
        with memory_errors_of(f"a batch of {crops}"):
            run = predict.try_batch if isinstance(predict, NetworkPredict) else predict
            run(torch.zeros(crops, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device))
    except OutOfDeviceMemoryError as error:
        # The engine halves batches; of a single crop there is no half.
        if crops == 1:
            raise InputError(f"{error} does not fit into the memory of {device}; use fewer models") from error
