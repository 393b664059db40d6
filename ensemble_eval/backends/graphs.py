"""All members of a batch as one captured CUDA graph: one launch in the place of hundreds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ensemble_eval.engine.predict import OneAfterTheOther, Predict, memory_errors_of
from ensemble_eval.errors import first_line, first_names

# Does again what was captured, with what is in its inputs now; the same outputs each time, written over.
Replay = Callable[[], Tensor]


class Graphs(Protocol):
    """What captures work on a device; tests put something else in its place."""

    def capture(self, work: Callable[[], Tensor]) -> Replay:
        """Capture what `work` asks of the device.

        Raises:
            RuntimeError: it cannot be captured, or there is no memory for it.
        """
        ...

    def release(self) -> None:
        """Wait for the device, and release everything that was captured, with its memory."""


class CudaGraphs:
    """Captures on a CUDA device. All graphs share the memory of their intermediate results.

    That is right because one stream replays them, and each one's outputs are copied before the next begins.

    Args:
        device: with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: list[torch.cuda.CUDAGraph] = []
        # One for all: cuBLAS keeps a workspace for every stream.
        self._stream: torch.cuda.Stream | None = None

    def capture(self, work: Callable[[], Tensor]) -> Replay:
        """Warm up on a stream of its own, then capture what `work` asks of the device."""
        computing = torch.cuda.current_stream(self._device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's stub
        stream = self._stream
        stream.wait_stream(computing)
        # Libraries set themselves up at their first call, which cannot be captured.
        with torch.cuda.stream(stream):
            work()
        computing.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = self._graphs[0].pool() if self._graphs else None
        # Loaders pin memory in their threads meanwhile; the default mode would take that for a part of this work.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = work()
        self._graphs.append(graph)

        def replay() -> Tensor:
            graph.replay()
            return outputs

        return replay

    def release(self) -> None:
        """Wait for the device, and release every graph with its memory."""
        torch.cuda.synchronize(self._device)
        for graph in self._graphs:
            graph.reset()
        self._graphs.clear()


class CapturedForward:
    """Captures the members of a batch when it first sees them with an input, and replays that from then on.

    Members whose work cannot be known to be the same for every batch are called one after the other, together with
    those that share a batch with them; and all are, once a capture has failed.

    Args:
        members: by name, in the ensemble's order; those with a true attribute `capturable` are captured.
        before_forward: called before each batch; what it raises ends the run there.
        graphs: of the members' device.
    """

    def __init__(self, members: Mapping[str, Predict], before_forward: Callable[[], None], graphs: Graphs) -> None:
        self._one_after_the_other = OneAfterTheOther(tuple(members.values()), before_forward)
        # Nothing may end the run in the middle of a capture.
        self._uninterrupted = OneAfterTheOther(tuple(members.values()))
        self._before_forward = before_forward
        self._graphs = graphs
        others = [name for name, predict in members.items() if not getattr(predict, "capturable", False)]
        self._capturable = [name not in others for name in members]
        self._captures = True
        # By the input's identity, which is its own as long as it is kept here too.
        self._replays: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Replay]] = {}
        self._remarks = [_not_captured(others)] if others else []

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """Probabilities of the members; captured at the first batch with this input, replayed after it."""
        if not self._captures or not all(self._capturable[member] for member in members):
            return self._one_after_the_other(crop_batch, members)
        self._before_forward()
        key = (id(crop_batch), tuple(members))
        if key not in self._replays:
            try:
                with memory_errors_of(f"a batch of {len(crop_batch)}"):
                    replay = self._graphs.capture(lambda: self._uninterrupted(crop_batch, members))
            except RuntimeError as error:
                self._give_up(error)
                return self._one_after_the_other(crop_batch, members)
            self._replays[key] = (crop_batch, replay)
        _, replay = self._replays[key]
        return replay()

    def release(self) -> None:
        """Release all captures."""
        # First what refers to the graphs' memory, then the graphs.
        self._replays.clear()
        self._graphs.release()

    def new_remarks(self) -> list[str]:
        """Sentences for the user since the last call."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def _give_up(self, error: RuntimeError) -> None:
        """Capture no more, for this run."""
        self._captures = False
        self.release()
        self._remarks.append(
            f"the members could not be captured as a CUDA graph ({first_line(error)}); they run kernel by kernel, "
            "which gives the same results more slowly"
        )


def _not_captured(names: Sequence[str]) -> str:
    return (
        "members that are functions, or networks of somebody else's, are not captured as a CUDA graph, nor are "
        f"those that share a batch with them; they run kernel by kernel: {first_names(names)}"
    )
