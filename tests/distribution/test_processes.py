"""Real processes: what a launcher starts, stops and misses. `make faults` interrupts them at random moments."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from faults import (
    Fault,
    Setup,
    check_leave,
    finish,
    interrupt,
    start,
    stop_a_worker,
    stored,
)
from outcome import outcome_bytes

pytest_plugins = ["whole_run"]
pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_dead_worker_and_a_term_are_told_and_two_ranks_go_on_to_the_same_bytes(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=2)
    for number, target, code, told in (
        (signal.SIGKILL, "worker", 1, "was killed by SIGKILL"),
        (signal.SIGTERM, "launcher", 143, "stopped by SIGTERM"),
    ):
        fault, before = Fault(number, target), setup.parts(tmp_path)
        left = interrupt(command, fault, stored(setup, tmp_path, before + 2))
        assert left[0] == code, left[2]
        assert f"{told}; what was finished is kept, continue with: ensemble-eval run" in left[2]
        check_leave(fault, *left, timed=False)
        assert not (tmp_path / "table3.csv").exists()
    finish(command)
    assert outcome_bytes(tmp_path) == expected


# Names the function and the call of it at which the process is killed; what follows is the program's own.
KILLED_IN_A_CALL = """
import os, pathlib, signal, sys
from ensemble_eval.cli import main
name, fatal = sys.argv.pop(1), int(sys.argv.pop(1))
owner = os if name == "fsync" else pathlib.Path
original, calls = getattr(owner, name), 0
def counted(*arguments, **options):
    global calls
    calls += 1
    if calls == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, counted)
main()
"""


def test_a_kill_at_any_step_of_a_write_leaves_the_same_bytes(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=1)
    done = 0
    # Before the bytes are there, before they are flushed, before the rename, and after it; in the third part. The
    # first run also writes, but does not flush, the list of images, and each says first that it is at work.
    for name, call, parts in (("write_bytes", 5, 2), ("fsync", 5, 2), ("replace", 4, 2), ("fsync", 6, 3)):
        killed = [command[0], "-c", KILLED_IN_A_CALL, name, str(call), *command[3:]]
        assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
        done += parts
        assert setup.parts(tmp_path) == done, name
    finish(command)
    assert outcome_bytes(tmp_path) == expected


def test_weights_that_do_not_fit_are_refused_before_any_rank_starts(setup: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "ensemble"
    shutil.copytree(setup.ensemble.parent, folder)
    (folder / "a.safetensors").write_bytes(b"")
    command = replace(setup, ensemble=folder / setup.ensemble.name).command(tmp_path / "out", ranks=2)
    process = start(command)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 2
    assert messages.startswith("error: ")
    assert "a.safetensors are damaged or truncated" in messages
    assert messages.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_rank_that_hangs_is_named_and_given_up(setup: Setup, tmp_path: Path) -> None:
    process = start([*setup.command(tmp_path / "out", ranks=2), "--timeout", "12"])
    stop_a_worker(process)
    _, messages = process.communicate(timeout=120)
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
