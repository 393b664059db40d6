"""Captured graphs without a GPU: outputs that each replay writes over, in the same memory."""

from collections.abc import Callable

from torch import Tensor

from ensemble_eval.backends.torch import CudaGraphs, Replay


class StandInGraphs(CudaGraphs):
    """Graphs of the CPU.

    Args:
        fails_at: which capture raises, counted from 1; None for none.
        error: what it raises.
    """

    def __init__(self, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.captures = self.replays = self.releases = 0
        self._fails_at, self._error = fails_at, error

    def capture(self, work: Callable[[], Tensor]) -> Replay:
        self.captures += 1
        if self.captures == self._fails_at and self._error:
            raise self._error
        outputs = work()

        def replay() -> Tensor:
            self.replays += 1
            return outputs.copy_(work())

        return replay

    def release(self) -> None:
        self.releases += 1
