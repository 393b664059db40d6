"""The whole job as events, in this process; the ranks that a supervisor starts are in tests/distribution."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from builders import PICTURE_SIZES, run_events

from ensemble_eval.engine.predict import OutOfDeviceMemoryError
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.finishing import Outcome
from ensemble_eval.jobs.job import Event, Finished, Notice, Opened, Progress
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.settings import RunSettings

IMAGES = len(PICTURE_SIZES)


@pytest.fixture
def settings(dataset: Path, ensemble: Path, tmp_path: Path) -> RunSettings:
    out = tmp_path / "out"
    return RunSettings(dataset=dataset, ensemble=ensemble, out=out, crops=1, device="cpu", backend="torch")


def events(settings: RunSettings, process: Process | None = None) -> list[Event[Outcome]]:
    return list(run_events(settings, process))


def opened_on(where: str, done: int = 0) -> Opened:
    lines = ("data set: class folders", f"2 models × 1 crops × {IMAGES} images on {where}, torch, float32")
    return Opened(lines, done, IMAGES)


def test_one_process_tells_what_it_does_in_order(settings: RunSettings) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    opened, *progressed, finished = events(settings)
    assert opened == opened_on("cpu")
    assert progressed == [Progress(done, IMAGES, 2 * done, 0) for done in range(1, IMAGES + 1)]
    assert isinstance(finished, Finished)
    assert finished.outcome.table == settings.out / "table3.csv"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert events(settings)[:-1] == [opened_on("cpu", IMAGES)]


def test_what_is_left_early_is_continued(settings: RunSettings) -> None:
    job = run_events(settings)
    while next(job) != Progress(2, IMAGES, 4, 0):
        pass
    job.close()
    assert not (settings.out / "table3.csv").exists()
    assert events(settings)[0] == opened_on("cpu", 2)


@pytest.mark.parametrize("role", [Role.RANK, Role.WORKER])
def test_of_several_ranks_only_the_one_that_reports_tells_of_all(settings: RunSettings, role: Role) -> None:
    assert events(settings, Process(1, 2, role=role)) == []
    if role is Role.WORKER:
        # The tables are its supervisor's task, who finds the work done.
        assert events(settings, Process(0, 2, role=role)) == []
        where, done, told = "2 ranks on cpu", IMAGES, events(replace(settings, ranks=2))
    else:
        where, done, told = "2 ranks", 3, events(settings, Process(0, 2, role=role))
    *rest, finished = [event for event in told if not isinstance(event, Notice | Progress)]
    assert rest == [opened_on(where, done)]
    assert isinstance(finished, Finished)


def test_any_rank_tells_of_smaller_batches(settings: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_eval.backends.network import NetworkPredict

    predict = NetworkPredict.__call__

    def small(self: NetworkPredict, crops: object) -> object:
        if len(crops) > 4:  # type: ignore[arg-type]  # a tensor
            raise OutOfDeviceMemoryError("too large")
        return predict(self, crops)  # type: ignore[arg-type]  # the same

    monkeypatch.setattr(NetworkPredict, "__call__", small)
    told = events(replace(settings, batch_size=8), Process(1, 2, role=Role.RANK))
    assert told == [Notice("rank 1: a batch did not fit into memory; batches now have 4 crops")]


def test_fresh_is_refused_where_others_may_have_written(settings: RunSettings) -> None:
    with pytest.raises(InputError, match="`fresh=True` could remove what another process has just written"):
        events(replace(settings, fresh=True), Process(0, 2, role=Role.RANK))
