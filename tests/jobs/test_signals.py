import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ensemble_eval.jobs.signals import (
    StopRequestedError,
    StopRequests,
    ends_within,
    handles_its_own_signals,
    stop_requests,
)

pytestmark = pytest.mark.processes

# As in a collective operation whose partners are gone: in C, without the interpreter's lock, and for ever.
STUCK = """
import ctypes
from ensemble_eval.jobs.signals import ends_within, stop_requests

lock = ctypes.create_string_buffer(64)
with stop_requests(), ends_within(0.3, "last words"):
    ctypes.CDLL(None).pthread_mutex_lock(lock)
    print("ready", flush=True)
    ctypes.CDLL(None).pthread_mutex_lock(lock)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="takes a mutex of Linux's for granted")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_does_not_come_back_to_python_ends_all_the_same(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.3)  # until it is back in C
        started = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert said == b"last words\n"
    assert time.monotonic() - started > 0.2


def test_one_that_stops_in_time_is_left_alone() -> None:
    with pytest.raises(StopRequestedError), stop_requests(), ends_within(0.2, "unsaid"):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    assert signal.set_wakeup_fd(-1) == -1


# A loading process that was forked in the block and is told to end, as torch does with those that linger.
FORKED = """
import os, signal, time
from ensemble_eval.jobs.signals import ends_within, stop_requests
from ensemble_eval.training.samples import _leave_signals_to_the_trainer

with stop_requests(), ends_within(0.2, "unsaid"):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _leave_signals_to_the_trainer(0)
        os.write(tell, b"!")
        time.sleep(60)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == 0
    time.sleep(0.5)
print("went on")
"""


@pytest.mark.slow
def test_a_signal_to_a_loading_process_does_not_end_the_one_that_started_it() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_a_request_waits_where_it_is_deferred_but_not_where_code_only_waits() -> None:
    requests = StopRequests()
    requests.check()
    with requests.deferred():
        requests.handle(signal.SIGTERM, None)
        with pytest.raises(StopRequestedError, match="SIGTERM"):
            requests.check()
        with pytest.raises(StopRequestedError), requests.at_once():
            pytest.fail("the request came before")
    # Launchers repeat SIGTERM.
    requests.handle(signal.SIGTERM, None)
    assert requests.signal_number == signal.SIGTERM

    requests = StopRequests()
    with requests.deferred(), requests.at_once(), pytest.raises(StopRequestedError):
        requests.handle(signal.SIGINT, None)
    with pytest.raises(StopRequestedError, match="SIGINT"):
        StopRequests().handle(signal.SIGINT, None)


def test_only_a_second_sigint_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = list[int]()
    monkeypatch.setattr(os, "_exit", ends.append)
    requests = StopRequests()
    with requests.deferred():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            requests.handle(number, None)
    assert ends == [128 + signal.SIGINT]
    assert requests.signal_number == signal.SIGTERM


def test_handlers_are_put_back_and_other_threads_set_none() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def inside() -> list[object]:
        with stop_requests(), ends_within(1, ""):
            return handlers()

    before = handlers()
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(inside).result() == before
    assert all(now != earlier for now, earlier in zip(inside(), before, strict=True))
    assert handlers() == before


def test_a_forked_process_tells_its_signals_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[int]()
    monkeypatch.setattr(signal, "set_wakeup_fd", told.append)
    handles_its_own_signals()
    assert told == [-1]


# A worker whose supervisor ends.
ORPHAN = """
import os, time
from ensemble_eval.jobs.signals import die_with

ready, tell = os.pipe()
if os.fork() == 0:
    die_with(os.getppid())
    os.write(tell, b"!")
    time.sleep(60)
os.read(ready, 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_worker_ends_with_its_supervisor() -> None:
    # It would hold standard output open.
    assert subprocess.run([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, timeout=30).returncode == 0
    late = "from ensemble_eval.jobs.signals import die_with; die_with(0)"
    assert subprocess.run([sys.executable, "-c", late], check=False).returncode == -signal.SIGKILL
