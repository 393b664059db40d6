"""Several ranks with one thread each against one with one thread: `python -m benchmarks.scaling --images DIR`.

In every round `ensemble-eval run` evaluates the same images with one rank and with several, in a random order.
So that a machine whose processors share what they compute with is not taken for a tool that scales badly,
every round also measures the bound, the engine's forward pass alone, in one process and in several at once.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.files import ROOT, sample, write_images
from benchmarks.machine import machine_facts
from benchmarks.results import spread
from benchmarks.work import CROPS, PRECISIONS, Cost
from ensemble_eval.evaluation.key import RUN
from ensemble_eval.store.parts import read_parts

# The bound's rate is the same for any number; as many as take it some ten seconds.
BOUND_IMAGES = 4


@dataclass(frozen=True)
class Round:
    """How many times as fast as one process several are, in one round.

    Attributes:
        whole: the command from its start to its end.
        work: from the first part's beginning to the last one's end.
        bound: the forward pass alone.
    """

    whole: float
    work: float
    bound: float


def one_thread() -> dict[str, str]:
    """The environment in which every process has one thread to compute with."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run_seconds(arguments: argparse.Namespace, images: Path, labels: Path, ranks: int) -> tuple[float, float]:
    """Evaluate all images; the seconds of the whole command, and of the work in it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results"
        words = ["run", str(images), "--labels", str(labels), "--ensemble", str(arguments.ensemble)]
        words += ["--crops", str(CROPS), "--out", str(out)]
        words += ["--device", "cpu", "--ranks", str(ranks), "--precision", arguments.precision]
        words += ["--backend", "openvino", "--batch-size", str(arguments.batch)]
        command = [sys.executable, "-m", "ensemble_eval", *words]
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=one_thread(), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, work_seconds(out)


def work_seconds(out: Path) -> float:
    """From the beginning of a finished run's first part to the end of its last."""
    parts = read_parts(out, RUN, whole=False).by_name.values()
    return max(part.written for part in parts) - min(part.written - part.seconds for part in parts)


def bound_rate(arguments: argparse.Namespace, images: Path, labels: Path, processes: int) -> float:
    """Forward passes per second of several processes together, which begin at the same moment.

    Raises:
        RuntimeError: one of them failed.
    """
    command = [sys.executable, "-m", "benchmarks.contenders.bound", "--ensemble", str(arguments.ensemble)]
    command += ["--images", str(images), "--labels", str(labels)]
    command += ["--batch", str(arguments.batch), "--precision", arguments.precision, "--wait"]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, cwd=ROOT, env=one_thread(), stdin=pipe, stdout=pipe, text=True)
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the bound's process did not become ready")
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    costs = []
    for process in running:
        printed, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the bound's process ended with {process.returncode}")
        costs.append(Cost(**json.loads(printed.splitlines()[-1])))
    return sum(cost.run / cost.seconds for cost in costs)


def measure(arguments: argparse.Namespace, folder: Path, number: int) -> Round:
    """One round."""
    images, labels = folder / f"images-{arguments.count}", folder / f"labels-{arguments.count}.csv"
    few, few_labels = folder / f"images-{BOUND_IMAGES}", folder / f"labels-{BOUND_IMAGES}.csv"
    order = [1, arguments.ranks]
    random.Random(f"{arguments.seed}-{number}").shuffle(order)
    seconds = {ranks: run_seconds(arguments, images, labels, ranks) for ranks in order}
    rates = {count: bound_rate(arguments, few, few_labels, count) for count in order}
    for ranks in sorted(order):
        whole, work = seconds[ranks]
        line = f"round {number}  {ranks} ranks  {whole:.1f} s, of which work {work:.1f} s"
        print(f"{line}; the bound {rates[ranks]:.1f} passes/s", file=sys.stderr, flush=True)
    (whole, work), (whole_of_several, work_of_several) = seconds[1], seconds[arguments.ranks]
    return Round(whole / whole_of_several, work / work_of_several, rates[arguments.ranks] / rates[1])


def report(rounds: Sequence[Round], ranks: int) -> str:
    """The speed-ups, one line each: median, least and greatest."""
    values: dict[str, Iterable[float]] = {
        "the whole command": [one.whole for one in rounds],
        "the work in it": [one.work for one in rounds],
        "the bound, that many processes at once": [one.bound for one in rounds],
    }
    lines = [f"{name}: {spread(list(found)).text(2, '×')}" for name, found in values.items()]
    return "\n".join([f"{ranks} ranks against one, a thread each, n = {len(rounds)}", *lines])


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs, at any depth")
    parser.add_argument(
        "--ensemble", type=Path, default=ROOT / "manifests" / "default.toml", help="manifest [the shipped seven]"
    )
    parser.add_argument("--ranks", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--count", type=int, default=100, help="images of a run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--batch", type=int, default=16, help="crops per batch [%(default)s]")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the images' choice and the order [%(default)s]")
    return parser


def main() -> None:
    """See the module."""
    arguments = options().parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in {arguments.count, BOUND_IMAGES}:
            write_images(folder, sample(arguments.images, arguments.seed), count)
        rounds = [measure(arguments, folder, number) for number in range(1, arguments.rounds + 1)]
    print("\n".join(f"{name}: {facts[name]}" for name in ("machine", "CPU flags", "versions")))
    print(report(rounds, arguments.ranks))


if __name__ == "__main__":
    main()
