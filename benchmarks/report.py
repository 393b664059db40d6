"""How long `report` takes, and how much memory, on a simulated run: no network, no image, scores that are drawn.

python -m benchmarks.report --images 50000 --members 7 --classes 1000 --crops 10 --out build/report-bench
"""

import argparse
import resource
import shutil
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_eval.engine.in_full import ImageScores
from ensemble_eval.results.key import MemberKey, RunKey
from ensemble_eval.results.parts import Part
from ensemble_eval.results.reading import read_results
from ensemble_eval.results.rows import prediction_rows
from ensemble_eval.results.store import Store

_PART_IMAGES = 256
_SCHEMES = (1, 10, 144)


def drawn_scores(image: int, members: int, classes: int, schemes: tuple[int, ...]) -> ImageScores:
    """One image's mean softmax: members that resemble each other, with about ImageNet's share of errors."""
    rng = np.random.default_rng(image)
    label = int(rng.integers(classes))
    common = rng.normal(size=classes)
    common[label] += rng.exponential(6)
    own = rng.normal(size=(members, classes))
    found = {
        scheme: _softmax(1.4 * (common + 0.5 * own + 0.5 * rng.normal(size=own.shape) / np.sqrt(scheme)))
        for scheme in schemes
    }
    return ImageScores(f"val/{image:08}.JPEG", label, found, passes=members * schemes[-1])


def write_run(out: Path, images: int, members: int, classes: int, crops: int) -> None:
    """A finished run in the store's own format."""
    keys = tuple(
        MemberKey(name=f"m{n}", weights=f"{n}", arch="simulated", options={}, input={}) for n in range(members)
    )
    key = RunKey(
        crops=crops,
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
    schemes = tuple(scheme for scheme in _SCHEMES if scheme <= crops)
    store = Store(out, key)
    for start in range(0, images, _PART_IMAGES):
        some = [
            drawn_scores(n, members, classes, schemes) for n in range(start, min(images, start + _PART_IMAGES))
        ]
        rows = [row for each in some for row in prediction_rows(each, key.member_names, with_scores=True)]
        store.write(Part(rows, [each.id for each in some]))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return softmax


def main() -> None:
    """Write the run unless it is there, and time its report without a gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("images", 50_000), ("members", 7), ("classes", 1000), ("crops", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not (arguments.out / "predictions").exists():
        began = time.perf_counter()
        write_run(arguments.out, arguments.images, arguments.members, arguments.classes, arguments.crops)
        print(
            f"simulated in {time.perf_counter() - began:.0f} s; start again to time the report in a fresh process"
        )
        return
    shutil.rmtree(arguments.out / "report", ignore_errors=True)
    began, worked = time.perf_counter(), time.process_time()
    report = read_results(arguments.out).report(gallery=False)
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = report.page.stat().st_size / 1e6
    print(
        f"report in {seconds:.1f} s ({processor:.1f} s of processor), {peak:.2f} GiB at most, page {size:.2f} MB"
    )


if __name__ == "__main__":
    main()
