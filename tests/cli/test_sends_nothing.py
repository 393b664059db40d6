"""Whole commands in watched processes: no connection, no forked child, and an empty home folder."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from outgoing import watched

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize(("backend", "ranks"), [("torch", 1), ("openvino", 1), ("openvino", 2)])
def test_a_run_sends_nothing_and_leaves_the_home_folder_alone(
    dataset: Path, ensemble: Path, tmp_path: Path, backend: str, ranks: int
) -> None:
    if not importlib.util.find_spec(backend):
        pytest.skip("the extra [cpu] is not installed")
    outgoing = watched(tmp_path)
    command = [sys.executable, "-m", "ensemble_eval", "run", dataset, "--ensemble", ensemble, "--crops", "1"]
    command += ["--device", "cpu", "--backend", backend, "--ranks", ranks, "--out", tmp_path / "out"]
    finished = subprocess.run(
        [*map(str, command)], env=outgoing.environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / "table3.csv").exists()
    assert outgoing.attempts() == []
    assert outgoing.left_at_home() == []
