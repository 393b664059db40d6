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


class WarmUp:
    """Warms members up, so that the first that fails, in their order, shows before the work.

    On leaving it, all are warm; but not if loading one of them failed.

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
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="warm_up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with self._beside:
            if failure is None:
                for warm_up in self._left:
                    warm_up()

    def add(self, predict: Predict) -> None:
        """Warm a member up: OpenVINO compiles it while the next is loaded, others wait until all are there."""
        if self._backend == "openvino" and isinstance(predict, NetworkPredict):
            warm_up = self._beside.submit(_run_black_batch, predict, self._batch_size, self._device).result
        else:
            whole = compiles(self._backend) or isinstance(predict, FunctionMember)
            warm_up = functools.partial(_run_black_batch, predict, self._batch_size if whole else 1, self._device)
        self._left.append(warm_up)


def _run_black_batch(predict: Predict, crops: int, device: torch.device) -> None:
    """Run one batch of black crops through a member, so that what is wrong with it shows before the work."""
    try:
        with memory_errors_of(f"a batch of {crops}"):
            run = predict.try_batch if isinstance(predict, NetworkPredict) else predict
            run(torch.zeros(crops, 3, CROP_SIZE, CROP_SIZE, dtype=torch.uint8, device=device))
    except OutOfDeviceMemoryError as error:
        # The engine halves batches; of a single crop there is no half.
        if crops == 1:
            raise InputError(f"{error} does not fit into the memory of {device}; use fewer models") from error
