"""The job of a supervisor as events, with real ranks, in a process that keeps its own handlers and environment."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from builders import run_events
from faults import Setup, children
from outcome import outcome_bytes
from whole_run import settings_of

from ensemble_eval.jobs.job import Finished, Notice, Opened, Progress

pytestmark = pytest.mark.processes
pytest_plugins = ["whole_run"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_supervisor_tells_what_its_ranks_store_and_stops_them_when_it_is_left(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = setup.command(tmp_path, ranks=2)[3:]
    settings = settings_of(setup, tmp_path, ranks=2)
    handlers = [signal.getsignal(number) for number in signal.Signals]
    environment, before = dict(os.environ), set(children(os.getpid()))

    job = run_events(settings, words=words)
    for _ in job:
        assert [signal.getsignal(number) for number in signal.Signals] == handlers
        if len(set(children(os.getpid())) - before) == 2:
            break
    job.close()
    assert set(children(os.getpid())) <= before
    assert os.environ == environment
    assert not (tmp_path / "table3.csv").exists()

    with contextlib.closing(run_events(settings, words=words)) as job:
        told = [event for event in job if not isinstance(event, Notice)]
    opened = told[0]
    assert isinstance(opened, Opened)
    assert opened.lines[1] == f"1 models × 10 crops × {setup.images} images on 2 ranks on cpu, torch, float32"
    assert opened.done < opened.images == setup.images
    *_, last, finished = told
    assert isinstance(last, Progress)
    assert last.images_done == setup.images
    assert isinstance(finished, Finished)
    assert outcome_bytes(tmp_path) == expected
    assert os.environ == environment
