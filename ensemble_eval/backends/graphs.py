"""All members of a batch as one captured CUDA graph: one launch instead of hundreds."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ensemble_eval.engine.predict import Forward, Predict, memory_errors_of
from ensemble_eval.errors import first_line, first_names

# Does again what was captured, with what is in its inputs now; the same outputs each time, written over.
Replay = Callable[[], Tensor]


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
        """Warm up on a stream of its own, then capture what `work` asks of the device.

        Raises:
            RuntimeError: it cannot be captured, or there is no memory for it.
        """
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


class CapturedForward(Forward):
    """Captures the members of a batch when it first sees them with an input, and replays that from then on.

    Members whose work cannot be known to be the same for every batch are called one after the other, together with
    those that share a batch with them; and all are, once a capture has failed.

    Args:
        members: by name, in the ensemble's order; those with a true attribute `capturable` are captured.
        before_forward: called before each batch; what it raises ends the run there.
        graphs: of the members' device.
    """

    def __init__(
        self, members: Mapping[str, Predict], before_forward: Callable[[], None], graphs: CudaGraphs
    ) -> None:
        super().__init__(members.values(), before_forward)
        # Nothing may end the run in the middle of a capture.
        self._uninterrupted = Forward(members.values())
        self._graphs = graphs
        others = [name for name, predict in members.items() if not getattr(predict, "capturable", False)]
        self._capturable = {index for index, name in enumerate(members) if name not in others}
        # By the input's identity, which is its own as long as it is kept here too.
        self._replays: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Replay]] = {}
        self._notices: list[str] = []
        if others:
            self._notices.append(
                "members that are functions, or networks of somebody else's, are not captured as a CUDA graph, "
                f"nor are those that share a batch with them; they run kernel by kernel: {first_names(others)}"
            )

    def __call__(self, crop_batch: Tensor, members: Sequence[int], /) -> Tensor:
        """Probabilities of the members; captured at the first batch with this input, replayed after it."""
        if not self._capturable.issuperset(members):
            return super().__call__(crop_batch, members)
        self._before_forward()
        key = (id(crop_batch), tuple(members))
        if key not in self._replays:
            try:
                with memory_errors_of(f"a batch of {len(crop_batch)}"):
                    replay = self._graphs.capture(lambda: self._uninterrupted(crop_batch, members))
            except RuntimeError as error:
                self._capturable.clear()
                self.release()
                self._notices.append(
                    f"the members could not be captured as a CUDA graph ({first_line(error)}); they run kernel by "
                    "kernel, which gives the same results more slowly"
                )
                return super().__call__(crop_batch, members)
            self._replays[key] = (crop_batch, replay)
        _, replay = self._replays[key]
        return replay()

    def release(self) -> None:
        """Release all captures."""
        # First what refers to the graphs' memory, then the graphs.
        self._replays.clear()
        self._graphs.release()

    def new_notices(self) -> list[str]:
        """Sentences for the user since the last call."""
        notices, self._notices = self._notices, []
        return notices
