"""Fixtures of the tests with real processes: one small evaluation, and what it gives when nothing disturbs it."""

import pytest
from faults import Setup, finish, make_setup
from outcome import outcome_bytes

IMAGES = 24


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A data set and an ensemble; read only."""
    return make_setup(tmp_path_factory.mktemp("setup"), IMAGES)


@pytest.fixture(scope="session")
def expected(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Table and predictions of one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("expected")
    finish(setup.command(out, ranks=1))
    return outcome_bytes(out)
