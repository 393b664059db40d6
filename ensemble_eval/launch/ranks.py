"""Starting the ranks of one machine through torch's elastic launcher, and making sure they end with it."""

import ctypes
import dataclasses
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ensemble_eval.errors import WorkerFailedError
from ensemble_eval.launch.place import PARENT_VARIABLE
from ensemble_eval.launch.signals import StopRequestedError

# Workers that were told to stop finish a batch and write. What takes longer is killed and done again later.
_STOPPING_SECONDS = 8
_WATCH_EVERY_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}


def run_workers(arguments: Sequence[str], ranks: int, run_id: str, watch: Callable[[], object]) -> None:
    """Run `ensemble-eval` with `arguments` as that many ranks on this machine, until all have ended.

    Args:
        arguments: of every worker's command line.
        ranks: how many.
        run_id: names this start; the session of `distributed.deal`.
        watch: called now and then meanwhile, in another thread; an error from it stops the workers.

    Raises:
        WorkerFailedError: a worker failed; the others were told to stop, and wrote what they had.
        StopRequestedError: a signal came, and was passed on to the workers.
        Exception: what `watch` raised.
    """
    _silence_launcher()
    watcher = _Watcher(watch)
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
            # Not SIGTERM and SIGINT, which are ours: at a second one torch's handler would begin to wait anew.
            signals_to_handle="SIGUSR2",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            **_shutdown_timeout(),
        )
        try:
            with watcher, _stopping_signals():
                elastic_launch(config, sys.executable)("-m", "ensemble_eval", *arguments)
        except (SignalException, StopRequestedError, ChildFailedError) as ended:
            raise (watcher.error or _meaning(ended)) from ended


def _shutdown_timeout() -> dict[str, Any]:
    """How long torch waits for workers that it stops; before 2.12 it cannot be told."""
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    return {"shutdown_timeout": _STOPPING_SECONDS} if "shutdown_timeout" in known else {}


def die_with(parent: int) -> None:
    """Tie this worker to its launcher: it is killed when the launcher is, so that no orphan writes on.

    A new start in the same folder would otherwise share images with it. Does nothing where it is not Linux.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


class _Watcher:
    """Calls a function every second in a thread; its first error is kept and stops this process's workers.

    Whatever the error: with nobody watching, a rank that hangs would never be named.
    """

    def __init__(self, watch: Callable[[], object]) -> None:
        self._watch = watch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_WATCH_EVERY_SECONDS):
            try:
                self._watch()
            except Exception as error:  # raised again by the main thread
                self.error = error
                # The launcher's own handler in the main thread stops the workers.
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _meaning(ended: SignalException | StopRequestedError | ChildFailedError) -> BaseException:
    """What the end of the workers means to the user."""
    if isinstance(ended, SignalException):
        return StopRequestedError(ended.sigval)
    if isinstance(ended, StopRequestedError):
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


@contextmanager
def _stopping_signals() -> Iterator[None]:
    """SIGINT and SIGTERM stop the workers, once; a second SIGINT ends this process and with it the workers."""
    requested = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            # Launchers repeat SIGTERM, so only an impatient person's second SIGINT counts.
            if number == signal.SIGINT:
                os._exit(128 + number)
            return
        requested = True
        raise SignalException(signal.Signals(number).name, signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _silence_launcher() -> None:
    """Its messages are for those who debug the launcher; ours say what happened."""
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
