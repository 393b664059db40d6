"""A program: four threads evaluate at once in a process that has done nothing before.

Arguments: `shared` (one ensemble) or `own` (one each), and a folder.
"""

import faulthandler
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builders import CLASS_NAMES, encoded, picture, tiny_network, write_ensemble
from torch import Tensor, nn

import ensemble_eval as ee

THREADS = 4
SECONDS = 100


class Linear(nn.Module):
    """A network that the package knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 7, 8)
        self.classifier = nn.Linear(8, len(CLASS_NAMES))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.classifier(self.convolution(x).relu().mean(dim=(2, 3)))
        return outputs


def mixed_ensemble(manifest: Path, linear: nn.Module) -> ee.Ensemble:
    """One member in a file, and two in memory."""
    standard = ee.InputFormat.imagenet()
    members = [
        *ee.open_ensemble(manifest).members,
        ee.Member("ours", network=tiny_network(seed=1), input=standard),
        ee.Member("theirs", network=linear.eval(), input=standard),
    ]
    return ee.Ensemble(members, list(CLASS_NAMES))


def main(whose: str, folder: Path) -> None:
    manifest, linear = write_ensemble(folder, members=1), Linear()
    ensembles = [mixed_ensemble(manifest, linear)] * THREADS
    if whose == "own":
        ensembles = [mixed_ensemble(manifest, linear) for _ in range(THREADS)]
    images = [(f"{seed}.png", seed, encoded(picture(250, 240, seed))) for seed in range(2)]
    together = threading.Barrier(THREADS)

    def work(number: int) -> str:
        together.wait()
        out = folder / f"out{number}"
        ee.evaluate(ensembles[number], images, crops=10, out=out, device="cpu", backend="openvino", workers=1)
        return (out / "table3.csv").read_text()

    with ThreadPoolExecutor(THREADS) as threads:
        tables = set(threads.map(work, range(THREADS)))
    print(len(tables), "table")


if __name__ == "__main__":
    # A thread that waits with Python's lock in its hands cannot be interrupted from Python.
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    main(sys.argv[1], Path(sys.argv[2]))
