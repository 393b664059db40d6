"""Starting the ranks of one machine through torch's elastic launcher, and making sure they end with it."""

import ctypes
import dataclasses
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ensemble_eval.errors import WorkerFailedError
from ensemble_eval.launch.place import PARENT_VARIABLE
from ensemble_eval.launch.signals import StopRequestedError

# Workers that were told to stop finish a batch and write. What takes longer is killed and done again later.
# torch's compiler gives processes of its own ten seconds to end, and must not be killed while it waits for them.
_STOPPING_SECONDS = 12
_LOOK_EVERY_SECONDS = 1.0
_STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}


def run_workers(arguments: Sequence[str], ranks: int, run_id: str) -> Generator[None]:
    """Run `ensemble-eval` with `arguments` as that many ranks on this machine, until all have ended.

    Yields once a second meanwhile. Whatever ends it earlier, an exception in the caller included once the
    generator is closed, stops the workers: they write what they have.

    Args:
        arguments: of every worker's command line.
        ranks: how many.
        run_id: names this start; the session of `place.deal`.

    Raises:
        WorkerFailedError: a worker failed; the others were told to stop.
        StopRequestedError: the workers were told to stop by a signal.
    """
    _silence_launcher()
    with tempfile.TemporaryDirectory(prefix="ensemble-eval-") as logs, _worker_environment():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id=run_id,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            rdzv_configs={"is_host": True},
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            **_shutdown_timeout(),
        )
        launcher = _Launcher(config, arguments)
        try:
            launcher.start()
            while not launcher.ended.wait(_LOOK_EVERY_SECONDS):
                yield
        finally:
            launcher.stop()
    if launcher.error is not None:
        raise _meaning(launcher.error) from launcher.error


class _Stopped(SignalException):
    """What torch's launcher takes for a SIGTERM to itself: it passes it on to its workers and ends."""

    def __init__(self) -> None:
        super().__init__("stopped", signal.SIGTERM)


class _Launcher(threading.Thread):
    """Torch's launcher in a thread of its own, where it sets no handlers of signals and blocks nobody.

    Attributes:
        ended: whether all is over. Not `join`, which takes a thread for ended when a signal interrupts it.
        error: how it ended; None if all workers ended well.
    """

    def __init__(self, config: LaunchConfig, arguments: Sequence[str]) -> None:
        # A daemon, so that it cannot keep a process that ends at once; its workers end with that.
        super().__init__(name="launcher", daemon=True)
        self._config = config
        self._arguments = arguments
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Start the workers and wait for them."""
        try:
            elastic_launch(self._config, sys.executable)("-m", "ensemble_eval", *self._arguments)
        except BaseException as error:  # raised again by the thread that waits
            self.error = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """Stop the workers if there are any left, and return when they have ended."""
        if not self.ended.is_set():
            # The one way to tell a launcher that is not in the main thread; it looks several times a second.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(_Stopped))
        while self.is_alive() and not self.ended.wait(_LOOK_EVERY_SECONDS):
            pass


def _shutdown_timeout() -> dict[str, Any]:
    """How long torch waits for workers that it stops; before 2.12 it cannot be told."""
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    return {"shutdown_timeout": _STOPPING_SECONDS} if "shutdown_timeout" in known else {}


def _meaning(ended: BaseException) -> BaseException:
    """What the end of the workers means to the user."""
    if not isinstance(ended, ChildFailedError):
        return ended
    codes = {failure.local_rank: failure.exitcode for failure in ended.failures.values()}
    # The first that was not merely told to stop counts.
    rank, code = min(codes.items(), key=lambda item: (item[1] in _STOPPED, item[0]))
    if code in _STOPPED:
        return StopRequestedError(-code if code < 0 else code - 128)
    if code < 0:
        return WorkerFailedError(f"rank {rank} was killed by {signal.Signals(-code).name}", 1)
    return WorkerFailedError(f"rank {rank} failed", code)


@contextmanager
def _worker_environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _silence_launcher() -> None:
    """Its messages are for those who debug the launcher; ours say what happened."""
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
