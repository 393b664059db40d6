"""Whole commands in watched processes: no connection, no forked child, and an empty home folder."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from outgoing import watched

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize(
    ("backend", "ranks", "cached"), [("torch", 1, True), ("openvino", 1, False), ("openvino", 2, True)]
)
def test_a_run_sends_nothing_and_leaves_nothing_at_home_but_its_cache(
    dataset: Path, ensemble: Path, tmp_path: Path, backend: str, ranks: int, cached: bool
) -> None:
    if not importlib.util.find_spec(backend):
        pytest.skip("the extra [cpu] is not installed")
    outgoing = watched(tmp_path)
    # Empty, as if it were not there: the cache is where users have it.
    environment = {**outgoing.environment, "ENSEMBLE_EVAL_CACHE": ""}
    command = [sys.executable, "-m", "ensemble_eval", "run", dataset, "--ensemble", ensemble, "--crops", "1"]
    command += ["--device", "cpu", "--backend", backend, "--ranks", ranks, "--out", tmp_path / "out"]
    command += [] if cached else ["--no-cache"]
    finished = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / "table3.csv").exists()
    assert outgoing.attempts() == []
    kept = [Path(name) for name in outgoing.left_at_home() if (outgoing.home / name).is_file()]
    # What the two ranks converted is the same, under one name.
    assert len(kept) == (backend == "openvino" and cached)
    assert all(path.parent == Path(".cache", "ensemble-eval") for path in kept)
