"""This package, from its command line."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.work import CROPS, Cost, Work, parser, work_from


def evaluate(work: Work, options: Sequence[str]) -> Cost:
    """Run the command in a fresh folder and read its own record.

    `seconds` of run.json start when all is loaded and end when the last scores are there; only the writing of
    the last part, hundredths of a second, is not in them.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results"
        command = [sys.executable, "-m", "ensemble_eval", "run", str(work.images), "--labels", str(work.labels)]
        command += ["--ensemble", str(work.ensemble), "--crops", str(CROPS), "--out", str(out)]
        command += ["--device", "cpu", "--batch-size", str(work.batch), "--precision", work.precision, *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
        record = json.loads((out / "run.json").read_text())
    useful = CROPS * len(record["weights_sha256"]) * record["images"]
    return Cost(record["images"], useful, record["passes"], record["seconds"])


def main() -> None:
    """Pass unknown options on to `ensemble-eval run`."""
    arguments, options = parser().parse_known_args()
    evaluate(work_from(arguments), options).print()


if __name__ == "__main__":
    main()
