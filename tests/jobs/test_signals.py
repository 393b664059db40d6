import os
import signal
import subprocess
import sys
import time

import pytest

from ensemble_eval.jobs.signals import StopRequestedError, ends_within, stop_requests

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
