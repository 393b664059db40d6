"""SIGINT and SIGTERM as an exception, at once or where the code says that it is ready for it."""

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
    """What SIGINT and SIGTERM have asked for. A request raises at once, except in a `deferred` block.

    Attributes:
        signal_number: of the first request; None while there is none.
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
        """Within the block a request waits for `check`, so that what belongs together is finished together."""
        with self._deferring(True):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within a deferred block: a part that only waits, and that a request may cut short."""
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
        """The signals' handler. A second SIGINT ends the process here; written files are never torn by that."""
        if self.signal_number is not None:
            # Launchers repeat SIGTERM, so only an impatient person's second SIGINT counts.
            if signal_number == signal.SIGINT:
                os._exit(128 + signal_number)
            return
        self.signal_number = signal_number
        if not self._deferred:
            self.check()


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Within the block SIGINT and SIGTERM are stop requests; outside the main thread there are none."""
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
    """Within the block a process that was told to stop is through with it in so many seconds, or ends there.

    A handler of a signal runs when the main thread is back in Python. In a collective operation, whose partners
    may be gone, that is when the operation times out: long after the launcher has lost its patience. What
    files hold is whole in any case. Outside the main thread the block changes nothing. A process that is forked
    in it, and handles signals, calls `handles_its_own_signals` first.

    Args:
        seconds: from the signal on.
        last_words: a sentence for standard error, if the process has to be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    here, told = socket.socketpair()
    told.setblocking(False)
    # The interpreter writes a signal's number there at once, whatever the main thread is doing.
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_end_late, args=(here, seconds, last_words), name="ends_within", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # Not by closing it alone: processes that were forked meanwhile hold it open.
        told.shutdown(socket.SHUT_RDWR)
        told.close()
        watcher.join()
        here.close()


def handles_its_own_signals() -> None:
    """In a process that was forked: its signals are no longer taken for those of the one that it came from."""
    signal.set_wakeup_fd(-1)


def _end_late(told: socket.socket, seconds: float, last_words: str) -> None:
    """Read signals until the other end is closed; end the process if that is not soon after one to stop."""
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
    """Tie this worker to its launcher: it is killed when the launcher is, so that no orphan writes on.

    A new start in the same folder would otherwise share images with it. Does nothing where it is not Linux.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
