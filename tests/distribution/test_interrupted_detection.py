"""`detect` as real processes: told to stop, killed, in several ranks.

One runner runs all jobs, so `propose` is interrupted by `make faults` alone.
"""

import signal
from pathlib import Path

import pytest
from drawn_boxes import draw
from faults import Fault, check_leave, finish, interrupt, start, stop_a_worker, stored
from interrupted_detection import DetectionSetup, detecting, outcome

pytestmark = [pytest.mark.processes, pytest.mark.slow]
IMAGES = 8


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> DetectionSetup:
    return detecting(draw(tmp_path_factory.mktemp("drawn"), IMAGES), tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def expected(setup: DetectionSetup, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected")
    finish(setup.command(out, ranks=1))
    found = outcome(out)
    assert found["rows"].count(b"\n") >= IMAGES
    return found


def test_a_dead_rank_and_a_term_are_told_and_three_ranks_go_on_to_the_same_bytes(
    setup: DetectionSetup, expected: dict[str, bytes], tmp_path: Path
) -> None:
    command = setup.command(tmp_path, ranks=3)
    for number, target, code, told in (
        (signal.SIGKILL, "worker", 1, "was killed by SIGKILL"),
        (signal.SIGTERM, "launcher", 143, "stopped by SIGTERM"),
    ):
        fault, before = Fault(number, target), setup.parts(tmp_path)
        left = interrupt(command, fault, stored(setup, tmp_path, before + 1))
        assert left[0] == code, left[2]
        assert f"{told}; what was finished is kept, continue with: ensemble-eval {setup.words[0]}" in left[2]
        check_leave(fault, *left, timed=False)
        assert not {"rcnn.json", "detection.csv"} & {path.name for path in tmp_path.rglob("*")}
    finish(command)
    assert outcome(tmp_path) == expected


def test_a_worker_that_hangs_is_named_and_the_job_ends_with_a_sentence(
    setup: DetectionSetup, tmp_path: Path
) -> None:
    process = start([*setup.command(tmp_path, ranks=2), "--timeout", "12"])
    stop_a_worker(process)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 1, messages
    assert "of 2 has stored nothing for 12 s and still has" in messages
    assert f"continue with: ensemble-eval {setup.words[0]}" in messages
