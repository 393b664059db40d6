"""Evaluations at once in threads of one process, each time from a process that has converted nothing before."""

import os
import subprocess
import sys
from pathlib import Path

import in_threads
import pytest

pytest.importorskip("ensemble_eval.backends.openvino", reason="the extra [cpu] is not installed")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("whose", ["shared", "own"])
def test_four_threads_evaluate_from_cold(tmp_path: Path, whose: str) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "ENSEMBLE_EVAL_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, in_threads.__file__, whose, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 table\n"), done.stderr
