"""Real processes: what a launcher starts, stops and misses. `make faults` interrupts them at random moments."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli
from drawn_boxes import draw
from faults import Fault, Setup, check_leave, disturbed_worker, interrupt, stored
from interrupted_detection import detecting
from outcome import outcome_bytes

from ensemble_eval.jobs import workers

pytest_plugins = ["whole_run"]
pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_dead_worker_and_a_term_are_told_and_one_process_goes_on_to_the_same_bytes(
    cli: Cli, setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=2)
    kept = "what was finished is kept, continue with: ensemble-eval run"
    with disturbed_worker(signal.SIGKILL, stored(setup, tmp_path, 2)):
        failed = cli(*command[3:])
    assert failed.code == 1, failed.err
    assert f"was killed by SIGKILL; {kept}" in failed.err
    fault = Fault(signal.SIGTERM, "launcher")
    code, seconds, messages = interrupt(command, fault, stored(setup, tmp_path, setup.parts(tmp_path) + 2))
    assert code == 143, messages
    assert f"stopped by SIGTERM; {kept}" in messages
    check_leave(fault, code, seconds, messages, timed=False)
    assert not (tmp_path / "table3.csv").exists()
    assert cli(*setup.command(tmp_path, ranks=1)[3:]).code == 0
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
    cli: Cli, setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=1)
    done = 0
    # Before the third part is renamed, when all its bytes are there under another name, and after it. The first
    # run also writes, but does not flush, the list of images, and each says first that it is at work.
    for name, call, parts in (("replace", 5, 2), ("fsync", 6, 3)):
        killed = [command[0], "-c", KILLED_IN_A_CALL, name, str(call), *command[3:]]
        assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
        done += parts
        assert setup.parts(tmp_path) == done, name
    assert cli(*command[3:]).code == 0
    assert outcome_bytes(tmp_path) == expected


def test_weights_that_do_not_fit_are_refused_before_any_rank_starts(
    cli: Cli, setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "run_workers", lambda *_: pytest.fail("ranks were started"))
    folder = tmp_path / "ensemble"
    shutil.copytree(setup.ensemble.parent, folder)
    (folder / "a.safetensors").write_bytes(b"")
    command = replace(setup, ensemble=folder / setup.ensemble.name).command(tmp_path / "out", ranks=2)
    refused = cli(*command[3:])
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert "a.safetensors are damaged or truncated" in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_rank_that_hangs_is_named_and_given_up(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `detect`; the runner that watches ranks is the same for all jobs."""
    monkeypatch.setattr(workers, "_STOPPING_SECONDS", 1.0)
    command = detecting(draw(tmp_path / "drawn", 4), tmp_path).command(tmp_path / "out", ranks=2)
    with disturbed_worker(signal.SIGSTOP):
        given_up = cli(*command[3:], "--timeout", "5")
    assert given_up.code == 1, given_up.err
    assert "of 2 has stored nothing for 5 s and still has" in given_up.err
    assert "continue with: ensemble-eval detect" in given_up.err


def test_torchrun_is_recognised_and_rank_0_writes_the_tables(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = setup.command(tmp_path, ranks=1)
    done = subprocess.run([*torchrun, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert outcome_bytes(tmp_path) == expected
