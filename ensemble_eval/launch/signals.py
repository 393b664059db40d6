"""SIGINT and SIGTERM as an exception, at once or where the code says that it is ready for it."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_PR_SET_PDEATHSIG = 1


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


def die_with(parent: int) -> None:
    """Tie this worker to its launcher: it is killed when the launcher is, so that no orphan writes on.

    A new start in the same folder would otherwise share images with it. Does nothing where it is not Linux.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
