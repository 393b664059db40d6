"""Workers as processes, with shell scripts in the place of Python: what they get, and how they end."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ensemble_eval.errors import WorkerFailedError
from ensemble_eval.jobs import workers
from ensemble_eval.jobs.signals import StopRequestedError
from ensemble_eval.jobs.workers import run_workers

pytestmark = pytest.mark.processes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the scripts. Workers are looked at often."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(workers, "_LOOK_EVERY_SECONDS", 0.05)
    return tmp_path


def become(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let workers run a script, which has their rank in RANK."""
    path = folder / "worker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def run(count: int) -> None:
    for _ in run_workers(["run", "val"], count, "a session"):
        pass


def test_each_worker_gets_its_rank_and_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = "LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE TORCHELASTIC_RUN_ID ENSEMBLE_EVAL_PARENT OMP_NUM_THREADS"
    values = " ".join(f"${name}" for name in names.split())
    become(monkeypatch, folder, f'echo "$* {values}" > "$RANK"; cat >> "$RANK"')
    run(3)
    for rank in range(3):
        text = (folder / str(rank)).read_text()
        assert text == f"-m ensemble_eval run val {rank} 3 3 a session {os.getpid()} 1\n"


def test_threads_may_be_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    become(monkeypatch, folder, 'echo "$OMP_NUM_THREADS" > "$RANK"')
    run(1)
    assert (folder / "0").read_text() == "2\n"


SLEEPS = 'trap "touch stopped$RANK; exit 143" TERM; touch "up$RANK"; while :; do sleep 0.01; done'


def test_where_one_fails_the_others_are_told_to_stop_and_its_code_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "while [ ! -e up0 ]; do sleep 0.01; done; exit 3"
    become(monkeypatch, folder, f'if [ "$RANK" = 1 ]; then {fails}; fi; {SLEEPS}')
    with pytest.raises(WorkerFailedError, match=r"^rank 1 failed$") as failed:
        run(2)
    assert failed.value.exit_code == 3
    assert (folder / "stopped0").exists()


def test_one_that_was_killed_is_named_with_the_signal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, folder, "kill -KILL $$")
    with pytest.raises(WorkerFailedError, match=r"^rank 0 was killed by SIGKILL$") as failed:
        run(1)
    assert failed.value.exit_code == 1


@pytest.mark.parametrize("end", ["exit 143", "kill -TERM $$"])
def test_workers_that_were_told_to_stop_stop_the_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    become(monkeypatch, folder, end)
    with pytest.raises(StopRequestedError) as stopped:
        run(2)
    assert stopped.value.signal_number == signal.SIGTERM


@pytest.mark.parametrize("stopped", [0, 2])
def test_a_failure_counts_more_than_a_stop_and_the_first_more_than_the_next(stopped: int) -> None:
    codes = [2, 5, 7]
    codes[stopped] = -signal.SIGINT
    first = codes.index(next(code for code in codes if code > 0))
    error = workers._error_of([0, 1, 2], codes)
    assert isinstance(error, WorkerFailedError)
    assert (str(error), error.exit_code) == (f"rank {first} failed", codes[first])


def test_it_is_looked_at_from_time_to_time_and_leaving_stops_the_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, folder, SLEEPS)
    running = run_workers([], 2, "")
    began = time.monotonic()
    while not ((folder / "up0").exists() and (folder / "up1").exists()):
        next(running)
    assert time.monotonic() - began >= workers._LOOK_EVERY_SECONDS
    running.close()
    assert (folder / "stopped0").exists()
    assert (folder / "stopped1").exists()


def test_one_that_does_not_stop_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_STOPPING_SECONDS", 0.2)
    become(monkeypatch, folder, 'trap "" TERM; echo $$ > up; while :; do sleep 0.01; done')
    running = run_workers([], 1, "")
    while not (folder / "up").exists() or not (folder / "up").read_text():
        next(running)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "up").read_text()), 0)
