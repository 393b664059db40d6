import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.processes
def test_the_benchmark_of_detection_measures_what_it_says() -> None:
    words = ["--drawn", "2", "--images", "2", "--boxes", "8", "--batch", "8", "--rounds", "1", "--counts", "2,3"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.detection", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("rcnn", "doubled", "multibox"):
        assert re.search(rf"^{name}: \d+ .* proposals/s, .* images/s on one processor$", done.stdout, re.M)
    figures = [
        re.search(pattern, done.stdout, re.M)
        for pattern in (
            r"^detection: (\d+) .* regions/s through 6 members$",
            r"^forward pass alone: (\d+) .* regions/s$",
            r"^detection over it: ([\d.]+) .*\(n = 1\)$",
        )
    ]
    ours, bare, ratio = (float(found.group(1)) for found in figures if found)
    assert ratio == pytest.approx(ours / bare, abs=0.05)
    assert re.search(r"^3 images over 2: [\d.]+×$", done.stdout, re.M)
