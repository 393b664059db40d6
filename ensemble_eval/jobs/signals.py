"""Turns SIGINT and SIGTERM into an exception, either at once or where the code checks for it."""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

_PR_SET_PDEATHSIG = 1
_STANDARD_ERROR = 2


class StopRequestedError(BaseException):
    """Raised in the main thread by SIGINT or SIGTERM; not an Exception, so that no handler swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class StopRequests:
    """Requests to stop by SIGINT and SIGTERM. A request raises at once, except in a `deferred` block.

    Attributes:
        signal_number: The signal of the first request; None if there is none.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._deferred = False

    def check(self) -> None:
        """Raise `StopRequestedError` if there was a request."""
        if self.signal_number is not None:
            raise StopRequestedError(self.signal_number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block, a request waits for `check`, so that steps that belong together are completed."""
        with self._deferring(True):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within a deferred block, let a request interrupt code that only waits."""
        with self._deferring(False):
            self.check()
            yield

    @contextlib.contextmanager
    def _deferring(self, deferred: bool) -> Iterator[None]:
        before, self._deferred = self._deferred, deferred
        try:
            yield
        finally:
            self._deferred = before

    def handle(self, signal_number: int, _frame: FrameType | None) -> None:
        """Handle a signal. A second SIGINT ends the process at once, which leaves no file half-written."""
        if self.signal_number is not None:
            # Launchers repeat SIGTERM, so only a second SIGINT, which comes from a person, counts.
            if signal_number == signal.SIGINT:
                os._exit(128 + signal_number)
            return
        self.signal_number = signal_number
        if not self._deferred:
            self.check()


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Within the block, treat SIGINT and SIGTERM as stop requests. Outside the main thread it does nothing."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous = {number: signal.signal(number, requests.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ends_within(seconds: float, last_words: str) -> Iterator[None]:
    """End the process if it does not leave the block within some seconds after SIGINT or SIGTERM.

    Python runs a signal handler only when the main thread is back in Python code. In a collective operation whose
    partners are gone, that is when the operation times out, which may be after the launcher kills the process.
    Files are never half-written. Outside the main thread the block does nothing. A forked process that handles
    signals itself must call `handles_its_own_signals` first.

    Args:
        seconds: The time limit after the signal.
        last_words: A sentence for standard error if the process has to be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    here, told = socket.socketpair()
    told.setblocking(False)
    # The interpreter writes the number of a signal there at once, whatever the main thread is doing.
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_end_late, args=(here, seconds, last_words), name="ends_within", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # Closing is not enough, because processes that were forked meanwhile keep it open.
        told.shutdown(socket.SHUT_RDWR)
        told.close()
        watcher.join()
        here.close()


def handles_its_own_signals() -> None:
    """In a forked process, stop reporting its signals to the process that it was forked from."""
    signal.set_wakeup_fd(-1)


def _end_late(told: socket.socket, seconds: float, last_words: str) -> None:
    """Read signals until the other end is closed; end the process if that takes too long after a stop signal."""
    stopped_by, deadline = 0, float("inf")
    while True:
        left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        if not select.select([told], [], [], left)[0]:
            os.write(_STANDARD_ERROR, f"{last_words}\n".encode())
            os._exit(128 + stopped_by)
        signals = told.recv(4096)
        if not signals:
            return
        stops = [number for number in signals if number in (signal.SIGINT, signal.SIGTERM)]
        if stops and not stopped_by:
            stopped_by, deadline = stops[0], time.monotonic() + seconds


def die_with(parent: int) -> None:
    """Kill this worker when its supervisor ends, so that no orphan writes to the folder of the next start.

    It does nothing on systems other than Linux.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
