"""Peak memory of a run at 144 crops, beyond that of importing: `python -m benchmarks.memory --images DIR`.

Evaluates small and large data sets with `ensemble-eval run`. The images are hard links to as many as there
are: a file that is read twice needs memory twice.

This process does not import torch, because a child's peak starts at its parent's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.files import ROOT, sample, write_images, write_networks

# What `run` imports in its life; nothing else happens.
_IMPORTS = (
    "import ensemble_eval.cli, ensemble_eval.evaluation.process, "
    "ensemble_eval.cli.tables, ensemble_eval.cli.progress"
)
# ru_maxrss is in KiB, on macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_mib(command: Sequence[str]) -> float:
    """The largest resident size that a program reaches, in MiB.

    Raises:
        SystemExit: it failed; with all that it said.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        # wait4 gives this child's own figures; getrusage would give the largest of all children so far.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{said.read()}\nfailed with {process.returncode}")
    return usage.ru_maxrss * _UNIT / 2**20


def importing(backend: str) -> list[str]:
    """The program that only imports."""
    engine = ", openvino" if backend == "openvino" else ""
    return [sys.executable, "-c", f"{_IMPORTS}{engine}"]


def running(arguments: argparse.Namespace, ensemble: Path, folder: Path, images: int) -> list[str]:
    """The program that evaluates that many images, 144 crops each."""
    flat, labels = write_images(folder, sample(arguments.images, seed=1), images)
    words = ["-m", "ensemble_eval", "run", str(flat), "--labels", str(labels), "--ensemble", str(ensemble)]
    words += ["--crops", "144", "--out", str(folder / f"results-{images}"), "--device", "cpu"]
    words += ["--backend", arguments.backend, "--precision", arguments.precision]
    words += ["--batch-size", str(arguments.batch), "--scores", arguments.scores]
    return [sys.executable, *words]


def report(imported: float, peaks: dict[int, float]) -> str:
    """The figures in MiB, one line each, and the ratio of the largest data set's to the smallest's."""
    lines = [f"importing alone: {imported:.0f} MiB"]
    lines += [f"{images} images: {peak:.0f} MiB, {peak - imported:.0f} beyond" for images, peak in peaks.items()]
    few, many = min(peaks), max(peaks)
    ratio = (peaks[many] - imported) / (peaks[few] - imported)
    return "\n".join([*lines, f"{many} images over {few}, beyond importing: {ratio:.2f}×"])


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs, at any depth")
    parser.add_argument("--counts", default="100,1000", help="sizes of the data sets [%(default)s]")
    parser.add_argument("--members", type=int, default=7, help="networks of the ensemble [%(default)s]")
    parser.add_argument("--width", type=float, default=1.0, help="their width [%(default)s]")
    parser.add_argument("--batch", type=int, default=16, help="crops per batch [%(default)s]")
    parser.add_argument("--precision", default="bfloat16", help="[%(default)s]")
    parser.add_argument("--backend", default="openvino", help="[%(default)s]")
    parser.add_argument("--scores", default="all", help="all or none: what is stored [%(default)s]")
    return parser


def main() -> None:
    """See the module."""
    arguments = options().parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ensemble = write_networks(folder / "networks", arguments.members, arguments.width)
        imported = peak_mib(importing(arguments.backend))
        peaks = {count: peak_mib(running(arguments, ensemble, folder, count)) for count in counts}
    print(report(imported, peaks))


if __name__ == "__main__":
    main()
