"""From the command to its first batch: `python -m benchmarks.start --before CHECKOUT`.

Each round starts every way once, in a random order, and takes the time until the command says what it is about to
run: networks are loaded and compiled then, and the next thing is the first batch. The networks are full-width
GoogLeNets with random weights; there is one picture.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from benchmarks.machine import machine_facts
from benchmarks.networks import write_ensemble
from benchmarks.results import spread

_ROOT = Path(__file__).parents[1]


def seconds_to_first_batch(command: list[str], environment: Mapping[str, str]) -> float:
    """Run a command, and take the time until the line that it says before its first batch."""
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd="/"
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " models × " in line:
                taken = time.monotonic() - began
                process.communicate()
                return taken
    raise RuntimeError(f"{command} ended with {process.returncode} before its first batch")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 7])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=1.0)
    arguments = parser.parse_args()
    for name, fact in machine_facts().items():
        print(f"{name}: {fact}")
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), arguments)


def _measure(folder: Path, arguments: argparse.Namespace) -> None:
    manifest = write_ensemble(folder / "networks", max(arguments.members), arguments.width)
    (folder / "images" / "class-0000").mkdir(parents=True)
    Image.radial_gradient("L").save(folder / "images" / "class-0000" / "picture.jpg")
    ways = {"first start": (_ROOT, ["--no-cache"]), "second start": (_ROOT, list[str]())}
    if arguments.before:
        ways["before"] = (arguments.before.resolve(), [])
    taken: dict[tuple[str, int], list[float]] = {}
    # One that is not counted: it fills the cache, and the disk's.
    for counted in range(arguments.rounds + 1):
        for members in arguments.members:
            for way in random.sample(sorted(ways), len(ways)):
                checkout, options = ways[way]
                places = {"PYTHONPATH": str(checkout), "ENSEMBLE_EVAL_CACHE": str(folder / "cache")}
                command = [sys.executable, "-m", "ensemble_eval", "run", str(folder / "images"), "--crops", "1"]
                command += ["--ensemble", str(manifest), "--models", str(members), "--fresh", *options]
                command += ["--out", str(folder / "out")]
                seconds = seconds_to_first_batch(command, {**os.environ, **places})
                if counted:
                    taken.setdefault((way, members), []).append(seconds)
    for (way, members), times in sorted(taken.items()):
        print(f"{way}, {members} members: {spread(times).text(2)} s, n = {len(times)}")


if __name__ == "__main__":
    main()
