"""The backends of torch: its own kernels, which always work, and those that its compiler makes of a network.

On CUDA, kernels are launched as captured graphs: the compiler captures a network, and `CapturedForward` all
members of a batch, so that there is one launch instead of hundreds.
"""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.engine.predict import Forward, Predict, memory_errors_of
from ensemble_eval.errors import first_line, first_names
from ensemble_eval.settings import Precision

# Repeats what was captured with the present content of its inputs, and writes over the same outputs each time.
Replay = Callable[[], Tensor]
_OTHERWISE = 'or choose `backend="torch"`'


def torch_logits(
    network: nn.Module, device: torch.device, precision: Precision, *, cast_once: bool = False
) -> Callable[[Tensor], Tensor]:
    """What runs a network with torch, channels last: normalised float [B, 3, S, S] -> logits [B, classes].

    Args:
        network: in eval mode, compiled or not; it is moved to the device.
        device: where it runs.
        precision: of the convolutions.
        cast_once: cast the weights to the precision now; the input must come in it. Otherwise torch's autocast
            casts both in each pass, layer by layer.
    """
    dtype = getattr(torch, precision)
    # Channels last more than doubles eager throughput of these networks on a CPU.
    network = network.to(device, dtype if cast_once else None, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    # A network that is not ours may launch kernels by itself, which run on torch's current device.
    as_current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    autocasts = not cast_once and dtype != torch.float32

    def logits(normalised: Tensor) -> Tensor:
        with as_current, full_float32(), torch.autocast(device.type, dtype, enabled=autocasts):
            outputs: Tensor = network(normalised)
            return outputs

    return logits


class Compiled(nn.Module):
    """A network that torch compiles at its first batch.

    Weights stay arguments of the compiled code, so members of one shape share it: the second finds the first
    one's in torch's cache, in this process and on disk.

    Args:
        network: in eval mode.
        device: where it will run.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        # Only here: it takes more than a second to import.
        import torch._dynamo

        super().__init__()
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._compiled = torch.compile(network, mode=mode, dynamic=False)
        # A batch may be halved nine times, each time another shape; beyond the limit torch would go on without
        # compiling and say nothing.
        self._limits = torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True)

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        with self._limits:
            outputs: Tensor = self._compiled(x)
            return outputs


class CudaGraphs:
    """Captures on a CUDA device. All graphs share the memory of their intermediate results.

    That is right because one stream replays them, and each one's outputs are copied before the next begins.

    Args:
        device: with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graphs: list[torch.cuda.CUDAGraph] = []
        # One for all captures: cuBLAS keeps a workspace for every stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's stub

    def capture(self, work: Callable[[], Tensor]) -> Replay:
        """Warm up on a stream of its own, then capture what `work` asks of the device.

        Raises:
            RuntimeError: it cannot be captured, or there is no memory for it.
        """
        computing, stream = torch.cuda.current_stream(self._device), self._stream
        stream.wait_stream(computing)
        # Libraries initialise themselves at their first call, which cannot be captured.
        with torch.cuda.stream(stream):
            work()
        computing.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = self._graphs[0].pool() if self._graphs else None
        # Loaders pin memory in their threads meanwhile; the default mode would take that as part of this work.
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
    """Captures the members of a batch when it first sees them with an input tensor, and replays them afterwards.

    Members whose operations may differ between batches are called one after the other, and so are the members that
    share a batch with them. Once a capture has failed, all members are.

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
        # By the identity of the input, which stays unique because the input is kept here too.
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


def missing_for_compiler(device: torch.device) -> str | None:
    """What torch's compiler lacks to compile for a device, with the remedy; None if it lacks nothing.

    For a CPU it writes C++. For CUDA it has Triton make the kernels, which builds a small C extension of Python
    to launch each of them.
    """
    if device.type == "cpu":
        missing = f"a C++ compiler, and there is none; install g++, {_OTHERWISE}"
        return None if _is_there(os.environ.get("CXX"), "c++", "g++") else missing
    if importlib.util.find_spec("triton") is None:
        return f"the package triton, which is not installed; pip install triton, {_OTHERWISE}"
    # The environment's word is taken as it is: where it names nothing, Triton looks no further.
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"a C compiler, and CC names {named!r}, which is not there; correct or unset CC, {_OTHERWISE}"
    if named is None and not _is_there("gcc", "clang"):
        return f"a C compiler, and there is neither gcc nor clang; install one, set CC, {_OTHERWISE}"
    # As Triton finds it: Debian's own scheme for packages outside the distribution has no headers.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    header = Path(sysconfig.get_paths(scheme)["include"], "Python.h")
    if not header.is_file():
        return f"Python's headers, and {header} is not there; install python3-dev or python3-devel, {_OTHERWISE}"
    return None


def _is_there(*programs: str | None) -> bool:
    return any(name and shutil.which(name) for name in programs)
