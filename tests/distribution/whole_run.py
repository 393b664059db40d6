"""Fixtures of the tests with real processes: one small evaluation, and what it gives when nothing disturbs it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import run_events
from faults import Setup, make_setup
from outcome import outcome_bytes

from ensemble_eval.settings import RunSettings

IMAGES = 24


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A data set and an ensemble; read only."""
    return make_setup(tmp_path_factory.mktemp("setup"), IMAGES)


def settings_of(setup: Setup, out: Path, **changed: Any) -> RunSettings:
    """The settings of the setup's command."""
    return RunSettings(
        dataset=setup.dataset, ensemble=setup.ensemble, out=out, crops=10, batch_size=8, device="cpu",
        backend="torch", save_every=0, **changed,
    )  # fmt: skip


@pytest.fixture(scope="session")
def expected(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Table and predictions of one process that nothing interrupted; with one thread, as every rank has."""
    out, threads = tmp_path_factory.mktemp("expected"), torch.get_num_threads()
    for _ in run_events(settings_of(setup, out, ranks=1)):
        pass
    torch.set_num_threads(threads)
    return outcome_bytes(out)
