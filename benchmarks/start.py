"""From the command to its first batch: `python -m benchmarks.start --before CHECKOUT`.

Each round starts every way once, in a random order, and takes the time until the command says what it is about to
run: networks are loaded and compiled then, and the next thing is the first batch. An older checkout may say it
earlier, so the time of the whole run of one crop is taken too. The networks are full-width GoogLeNets with random
weights; there is one picture.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.machine import machine_facts
from benchmarks.networks import write_ensemble
from benchmarks.results import spread

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Start:
    """What one start took.

    Attributes:
        seconds: by the clock.
        processor_seconds: of the processors, which other programs do not slow down so much.
        whole_seconds: by the clock, with the one batch and the tables.
    """

    seconds: float
    processor_seconds: float
    whole_seconds: float


def start(command: list[str], environment: Mapping[str, str]) -> Start:
    """Run a command, and take the time until the line that it says before its first batch."""
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd="/"
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " models × " in line:
                seconds, of_processors = time.monotonic() - began, _processor_seconds(process.pid)
                process.communicate()
                if process.returncode == 0:
                    return Start(seconds, of_processors, time.monotonic() - began)
                break
    raise RuntimeError(f"{command} ended with {process.returncode}")


def _processor_seconds(pid: int) -> float:
    """What a process has used so far, by Linux's word (proc_pid_stat(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    taken: dict[tuple[int, str], list[Start]] = {}
    # One that is not counted: it fills the cache, and the disk's.
    for counted in range(arguments.rounds + 1):
        for members in arguments.members:
            for way in random.sample(sorted(ways), len(ways)):
                checkout, options = ways[way]
                places = {"PYTHONPATH": str(checkout), "ENSEMBLE_EVAL_CACHE": str(folder / "cache")}
                command = [sys.executable, "-m", "ensemble_eval", "run", str(folder / "images"), "--crops", "1"]
                command += ["--ensemble", str(manifest), "--models", str(members), "--fresh", *options]
                command += ["--out", str(folder / "out")]
                once = start(command, {**os.environ, **places})
                if counted:
                    taken.setdefault((members, way), []).append(once)
        # Each round, so that a measurement that is cut short says what it had.
        print(f"after {counted} rounds, load {os.getloadavg()[0]:.1f}:", flush=True)
        for (members, way), starts in sorted(taken.items()):
            clock = spread([each.seconds for each in starts]).text(2)
            processor = spread([each.processor_seconds for each in starts]).text(2)
            whole = spread([each.whole_seconds for each in starts]).text(2)
            print(
                f"  {members} members, {way}: {clock} s; of the processors {processor} s; whole {whole} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
