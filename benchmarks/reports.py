"""What a report of a whole validation set costs: `python -m benchmarks.reports --images 50000`.

The predictions are drawn, not computed by networks: members that resemble each other, about as sure and right as
trained ones are on ImageNet. They are stored as a run stores them, and `ensemble-eval report` reads them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_facts
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN, MemberKey, RunKey
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

_PART_IMAGES = 256


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--members", type=int, default=7)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the simulated run; by default a temporary one")
    arguments = parser.parse_args()
    for name, fact in machine_facts().items():
        print(f"{name}: {fact}")
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.keep or Path(folder) / "run"
        if not out.exists():
            draw_run(out, arguments.images, arguments.members, arguments.classes, arguments.seed)
        stored = sum(path.stat().st_size for path in (out / "predictions").iterdir())
        print(f"{arguments.images} images, {arguments.members} members, {stored / 1e9:.2f} GB of predictions")
        _measure(out)


def draw_run(out: Path, images: int, members: int, classes: int, seed: int) -> None:
    """Store a run whose scores are drawn.

    Args:
        out: the run's folder.
        images: how many.
        members: how many, `m0` being the first.
        classes: how many.
        seed: of all draws.
    """
    keys = tuple(
        MemberKey(name=f"m{n}", weights=f"{n}", arch="googlenet", options={}, input={}) for n in range(members)
    )
    key = RunKey(
        crops=GOOGLENET.schemes[-1],
        precision="float32",
        backend="torch",
        device_type="cpu",
        scores=True,
        until_decided=(),
        interpolation="bilinear",
        classes=classes,
        dataset="simulated",
        images=images,
        members=keys,
    )
    rng = np.random.default_rng(seed)
    for first in range(0, images, _PART_IMAGES):
        some = [
            _draw_image(rng, number, members, classes)
            for number in range(first, min(first + _PART_IMAGES, images))
        ]
        rows = [row for each in some for row in rows_of(each, key, [each.label])]
        Store(out, RUN, key).write(
            Part(rows, [each.id for each in some], passes=len(some) * members * GOOGLENET.schemes[-1])
        )


def _draw_image(rng: np.random.Generator, number: int, members: int, classes: int) -> ImageScores:
    label = int(rng.integers(classes))
    logits = 1.6 * rng.standard_normal(classes, np.float32) + rng.standard_normal((members, classes), np.float32)
    logits[:, label] += 7.0 + 2.5 * rng.standard_normal(dtype=np.float32)
    means = {}
    for scheme in GOOGLENET.schemes:
        noise = rng.standard_normal((members, classes), np.float32) / scheme**0.5
        powers = np.exp((logits + noise).astype(np.float64))
        means[scheme] = powers / powers.sum(axis=1, keepdims=True)
    return ImageScores(f"ILSVRC2012_val_{number:08}.JPEG", label, means, passes=members * GOOGLENET.schemes[-1])


def _measure(out: Path) -> None:
    command = [sys.executable, "-m", "ensemble_eval", "report", str(out), "--no-gallery"]
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    page = (out / "report" / "report.html").stat().st_size
    print(
        f"report: {time.monotonic() - began:.1f} s, {processor:.1f} s of the processors, "
        f"{used.ru_maxrss / 2**20:.2f} GiB at most, a page of {page / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
