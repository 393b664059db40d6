"""Real processes: what a launcher starts, stops and misses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import Fault, Setup, check_leave, children, finish, interrupt, make_setup, start
from outcome import outcome_bytes

IMAGES = 16


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return make_setup(tmp_path_factory.mktemp("setup"), IMAGES)


@pytest.fixture(scope="module")
def expected(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    out = tmp_path_factory.mktemp("expected")
    finish(setup.command(out, ranks=1))
    return outcome_bytes(out)


def test_two_ranks_give_the_same_bytes_after_a_kill_and_a_term(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=2)
    for number, target, seconds in ((signal.SIGKILL, "worker", 7.0), (signal.SIGTERM, "launcher", 6.0)):
        fault = Fault(number, target, seconds)
        code, took, messages = interrupt(command, fault)
        check_leave(fault, code, took, messages, timed=False)
    finish(command)
    assert outcome_bytes(tmp_path) == expected


def test_a_worker_that_dies_fails_the_run_and_says_how_to_go_on(setup: Setup, tmp_path: Path) -> None:
    code, _, messages = interrupt(setup.command(tmp_path, ranks=2), Fault(signal.SIGKILL, "worker", 5.0))
    if code == 0:
        pytest.skip("the run was faster than the fault")
    assert code == 1
    assert "was killed by SIGKILL; what was finished is kept, continue with: ensemble-eval run" in messages
    assert not (tmp_path / "table3.csv").exists()


def test_a_rank_that_hangs_is_named_and_given_up(setup: Setup, tmp_path: Path) -> None:
    """A member of two ranks sleeps for ever; the time-out must end it, and say which."""
    stuck = tmp_path / "stuck"
    process = start([*setup.command(tmp_path / "out", ranks=2), "--timeout", "12"])
    began = time.monotonic()
    while time.monotonic() - began < 60 and process.poll() is None:
        workers = sorted(children(process.pid))
        if len(workers) == 2:
            os.kill(workers[1], signal.SIGSTOP)
            stuck.touch()
            break
        time.sleep(0.1)
    _, messages = process.communicate(timeout=120)
    assert stuck.exists()
    assert process.returncode == 1, messages
    assert "of 2 has stored nothing for 12 s and still has" in messages
    assert "continue with: ensemble-eval run" in messages


def test_torchrun_is_recognised_and_rank_0_writes_the_tables(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = setup.command(tmp_path, ranks=1)
    done = subprocess.run([*torchrun, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert outcome_bytes(tmp_path) == expected
