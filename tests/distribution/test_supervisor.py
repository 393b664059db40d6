"""The job of a supervisor as events, with real ranks, in a process that keeps its own handlers and environment."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from faults import Setup, children
from outcome import outcome_bytes

from ensemble_eval.evaluation.events import Begun, Finished, Opened, Step
from ensemble_eval.evaluation.job import evaluate
from ensemble_eval.launch.place import Place
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.settings import RunSettings

pytestmark = pytest.mark.processes
pytest_plugins = ["whole_run"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_supervisor_tells_what_its_ranks_store_and_stops_them_when_it_is_left(
    setup: Setup, expected: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = setup.command(tmp_path, ranks=2)[3:]
    settings = RunSettings(
        dataset=setup.dataset, ensemble=setup.ensemble, out=tmp_path, ranks=2, crops=10, batch_size=8,
        device="cpu", backend="torch", save_every=0,
    )  # fmt: skip
    handlers = [signal.getsignal(number) for number in signal.Signals]
    environment, before = dict(os.environ), set(children(os.getpid()))

    job = evaluate(settings, Place(), StopRequests(), words)
    for _ in job:
        assert [signal.getsignal(number) for number in signal.Signals] == handlers
        if len(set(children(os.getpid())) - before) == 2:
            break
    job.close()
    assert set(children(os.getpid())) <= before
    assert os.environ == environment
    assert not (tmp_path / "table3.csv").exists()

    with contextlib.closing(evaluate(settings, Place(), StopRequests(), words)) as job:
        told = list(job)
    assert told[0] == Opened(1, 10, setup.images, "2 ranks on cpu", "torch", "float32", "class folders")
    [begun] = [event for event in told if isinstance(event, Begun)]
    assert begun.images_done < setup.images
    *_, last, finished = told
    assert isinstance(last, Step)
    assert last.images_done == setup.images
    assert isinstance(finished, Finished)
    assert outcome_bytes(tmp_path) == expected
    assert os.environ == environment
