"""The whole job as events, in this process; the ranks that a supervisor starts are in tests/distribution."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from builders import PICTURE_SIZES

from ensemble_eval.engine.predict import OutOfDeviceMemoryError
from ensemble_eval.errors import InputError
from ensemble_eval.evaluation.events import BatchHalved, Begun, Event, Finished, Opened, Step, Warned
from ensemble_eval.evaluation.job import evaluate
from ensemble_eval.launch.place import Place, Role
from ensemble_eval.launch.signals import StopRequests
from ensemble_eval.settings import RunSettings

IMAGES = len(PICTURE_SIZES)


@pytest.fixture
def settings(dataset: Path, ensemble: Path, tmp_path: Path) -> RunSettings:
    out = tmp_path / "out"
    return RunSettings(dataset=dataset, ensemble=ensemble, out=out, crops=1, device="cpu", backend="torch")


def events(settings: RunSettings, place: Place = Place()) -> list[Event]:  # noqa: B008 (it is frozen)
    return list(evaluate(settings, place, StopRequests(), ["no", "worker"]))


def test_one_process_tells_what_it_does_in_order(settings: RunSettings) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    opened, begun, *progressed, finished = events(settings)
    assert opened == Opened(2, 1, IMAGES, "cpu", "torch", "float32", "class folders")
    assert begun == Begun(0, IMAGES)
    assert progressed == [Step(done, IMAGES, 2 * done, 0) for done in range(1, IMAGES + 1)]
    assert isinstance(finished, Finished)
    assert finished.outcome.table == settings.out / "table3.csv"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert events(settings)[:-1] == [opened, Begun(IMAGES, IMAGES)]


def test_what_is_left_early_is_continued(settings: RunSettings) -> None:
    job = evaluate(settings, Place(), StopRequests(), [])
    while next(job) != Step(2, IMAGES, 4, 0):
        pass
    job.close()
    assert not (settings.out / "table3.csv").exists()
    assert events(settings)[1] == Begun(2, IMAGES)


@pytest.mark.parametrize("role", [Role.RANK, Role.WORKER])
def test_of_several_ranks_only_the_one_that_reports_tells_of_all(settings: RunSettings, role: Role) -> None:
    assert events(settings, Place(1, 2, role=role)) == []
    if role is Role.WORKER:
        # The tables are its supervisor's task, who finds the work done.
        assert events(settings, Place(0, 2, role=role)) == []
        where, done, told = "2 ranks on cpu", IMAGES, events(replace(settings, ranks=2))
    else:
        where, done, told = "2 ranks", 3, events(settings, Place(0, 2, role=role))
    *rest, finished = [event for event in told if not isinstance(event, Warned | Step)]
    assert rest == [Opened(2, 1, IMAGES, where, "torch", "float32", "class folders"), Begun(done, IMAGES)]
    assert isinstance(finished, Finished)


def test_any_rank_tells_of_smaller_batches(settings: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble_eval.backends.torch import TorchBackend

    predict = TorchBackend.__call__

    def small(self: TorchBackend, crops: object) -> object:
        if len(crops) > 4:  # type: ignore[arg-type]
            raise OutOfDeviceMemoryError("too large")
        return predict(self, crops)  # type: ignore[arg-type]

    monkeypatch.setattr(TorchBackend, "__call__", small)
    told = events(replace(settings, batch_size=8), Place(1, 2, role=Role.RANK))
    assert told == [BatchHalved(4)]


def test_fresh_is_refused_where_others_may_have_written(settings: RunSettings) -> None:
    with pytest.raises(InputError, match="`fresh=True` could remove what another process has just written"):
        events(replace(settings, fresh=True), Place(0, 2, role=Role.RANK))
