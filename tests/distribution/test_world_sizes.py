"""The same bytes, whoever did the work and however often it was interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders import opened, started, write_dataset, write_ensemble
from outcome import outcome_bytes

from ensemble_eval.errors import EnsembleEvalError
from ensemble_eval.evaluation.opening import Inputs
from ensemble_eval.jobs.process import Process, Role
from ensemble_eval.jobs.signals import StopRequestedError, StopRequests
from ensemble_eval.settings import RunSettings

pytestmark = pytest.mark.slow

IMAGES = 20


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """Batches whose crops come from several images."""
    folder = tmp_path_factory.mktemp("world")
    sizes = [(40 + image % 3, 40) for image in range(IMAGES)]
    return RunSettings(
        dataset=write_dataset(folder / "val", sizes),
        ensemble=write_ensemble(folder / "ensemble", members=1),
        crops=10,
        batch_size=8,
        device="cpu",
        save_every=0,
    )


@pytest.fixture(scope="module")
def inputs(settings: RunSettings) -> Inputs:
    return opened(settings)


@pytest.fixture(scope="module")
def expected(settings: RunSettings, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Of one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("expected")
    evaluate(replace(settings, out=out), inputs, world=1)
    return outcome_bytes(out)


def evaluate(settings: RunSettings, inputs: Inputs, world: int) -> None:
    """Run all ranks one after the other, and finish."""
    for rank in range(world):
        run = started(settings, inputs, Process(rank, world, session=str(world), role=Role.RANK))
        for _ in run.evaluate():
            pass
    run.finish()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_world_sizes_give_the_same_bytes(
    settings: RunSettings, inputs: Inputs, expected: tuple[bytes, str], tmp_path: Path, world: int
) -> None:
    evaluate(replace(settings, out=tmp_path), inputs, world)
    assert outcome_bytes(tmp_path) == expected


def test_interruptions_between_any_two_batches_give_the_same_bytes(
    settings: RunSettings, inputs: Inputs, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    settings = replace(settings, out=tmp_path)
    interruptions = 0
    for batches in (3, 1, 4, 1, 5, 9, 2, 6, 100):
        stop = _StopAfter(batches)
        run = started(settings, inputs, Process(0, 1, session=str(batches)), stop)
        try:
            for _ in run.evaluate():
                pass
            break
        except StopRequestedError:
            interruptions += 1
            with pytest.raises(EnsembleEvalError, match=f"of {IMAGES} images are not evaluated yet"):
                run.finish()
            assert not (tmp_path / "table3.csv").exists()
    run.finish()
    assert interruptions >= 5
    assert outcome_bytes(tmp_path) == expected


def test_a_dead_ranks_images_are_done_by_another_number_of_ranks(
    settings: RunSettings, inputs: Inputs, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    settings = replace(settings, out=tmp_path)
    for rank in (0, 2):
        for _ in started(settings, inputs, Process(rank, 3, session="first", role=Role.RANK)).evaluate():
            pass
    evaluate(settings, inputs, world=2)
    assert outcome_bytes(tmp_path) == expected


def test_a_lost_part_is_done_again_to_the_same_bytes(
    settings: RunSettings, inputs: Inputs, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    settings = replace(settings, out=tmp_path)
    evaluate(settings, inputs, world=1)
    for part in sorted((tmp_path / "predictions").glob("part-*"))[:3]:
        data = bytearray(part.read_bytes())
        data[99] ^= 4
        part.write_bytes(data)
    evaluate(settings, inputs, world=2)
    assert outcome_bytes(tmp_path) == expected


def test_another_batch_size_gives_the_same_table(
    settings: RunSettings, expected: tuple[bytes, str], tmp_path: Path
) -> None:
    settings = replace(settings, batch_size=5, out=tmp_path)
    evaluate(settings, opened(settings), world=1)
    assert (tmp_path / "table3.csv").read_bytes() == expected[0]


class _StopAfter(StopRequests):
    """A SIGTERM that comes while some batch is in hand."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.signal_number = 15
        super().check()
