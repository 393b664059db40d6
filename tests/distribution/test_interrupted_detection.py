"""A worker of `detect` that hangs. `make faults` interrupts `propose` and `detect`; one runner runs all jobs."""

from pathlib import Path

import pytest
from drawn_boxes import draw
from faults import start, stop_a_worker
from interrupted_detection import detecting

pytestmark = [pytest.mark.processes, pytest.mark.slow]
IMAGES = 4


def test_a_worker_that_hangs_is_named_and_the_job_ends_with_a_sentence(tmp_path: Path) -> None:
    setup = detecting(draw(tmp_path / "drawn", IMAGES), tmp_path)
    process = start([*setup.command(tmp_path / "out", ranks=2), "--timeout", "12"])
    stop_a_worker(process)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 1, messages
    assert "of 2 has stored nothing for 12 s and still has" in messages
    assert f"continue with: ensemble-eval {setup.words[0]}" in messages
