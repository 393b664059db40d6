"""Measure ours on one GPU beside what bounds it and beside a script: `python -m benchmarks.cuda`.

All runs in one process, because starting and compiling would take longer than measuring. In every round everything
runs once, in a random order, for about as many seconds as it is given; ratios are taken within rounds. What does
not fit into the time for all of it is measured in fewer rounds, and the table says in how many.
"""

import argparse
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.ceiling import gflop_per_pass
from benchmarks.cuda_ceilings import activation_bytes, bytes_per_second, clocks, products_per_second, wait_for
from benchmarks.cuda_contenders import ROWS, Contender, Scene, contenders
from benchmarks.cuda_results import Ceilings, Line, Timed, results_text
from benchmarks.machine import machine_facts
from benchmarks.networks import CLASSES, write_ensemble
from ensemble_eval.jobs.devices import choose_device, device_name
from ensemble_eval.settings import Precision

NOTES = (
    "Times are of images that are in memory as JPEG files, from their bytes to the stored results (ours) or to "
    "the averaged scores (the script); loading networks, compiling and warming up are not in them.",
    "Cells are median (least–greatest) over n rounds. `of its bound` is the rate over the lesser of the forward "
    "pass alone and the loaders alone, round by round.",
    "Passes are those of the answer: until decided, fewer are run.",
    "The arithmetic is that of square matrix products in the same precision, measured here. The bandwidth is a "
    "copy's, measured here, over what a crop's activations take if each is read and written once.",
    "The networks have random weights and every label is 0. What is saved until decided depends on both, and is "
    "another with trained networks.",
)


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        width: of the networks.
        members: of the ensemble.
        rows: models × crops.
        product: side of the matrices.
        copied: bytes of a copy.
    """

    width: float
    members: int
    rows: Sequence[tuple[int, int]]
    product: int
    copied: int


FULL = Sizes(1.0, 7, ROWS, 8192, 1 << 30)
TINY = Sizes(0.05, 2, ((1, 1), (1, 10), (2, 10)), 64, 1 << 16)


def measure(
    found: Mapping[str, Contender], rounds: int, seconds: float, deadline: float, wait: Callable[[], None]
) -> Iterator[Timed]:
    """Run every contender once a round, in a random order, as long as there is time.

    Args:
        found: contenders by key.
        rounds: at most.
        seconds: that each measurement takes, about.
        deadline: of `time.monotonic`, after which none begins.
        wait: returns when the device has done what it was given.
    """
    amounts = {}
    for key, contender in found.items():
        amounts[key] = amount_for(lambda images, run=contender: _timed(run, images, wait)[1], seconds)  # type: ignore[misc]  # a default that binds the contender
        print(f"{key}: {amounts[key]} images in a round", file=sys.stderr, flush=True)
    for number in range(1, rounds + 1):
        for key in random.Random(number).sample(list(found), len(found)):
            if time.monotonic() + seconds > deadline and number > 1:
                return
            passes, taken = _timed(found[key], amounts[key], wait)
            yield Timed(key, number, amounts[key], passes, taken)


def amount_for(seconds_of: Callable[[int], float], seconds: float) -> int:
    """How many images take about so many seconds; at least one.

    Args:
        seconds_of: what a number of images takes. Its first call warms up, and does not count.
        seconds: to aim at.
    """
    seconds_of(1)
    images = 1
    while (taken := seconds_of(images)) < seconds / 3:
        images = round(images * min(16.0, max(2.0, 0.8 * seconds / max(taken, 1e-6))))
    return max(1, round(images * seconds / taken))


def _timed(contender: Contender, images: int, wait: Callable[[], None]) -> tuple[int, float]:
    run = contender.prepare(images)
    wait()
    began = time.perf_counter()
    passes = run()
    wait()
    return passes, time.perf_counter() - began


def lines_of(found: Mapping[str, Contender], rows: Sequence[tuple[int, int]]) -> dict[str, Line]:
    """What the table says of each contender, in its order."""
    per_image = {f"{models}×{crops}": models * crops for models, crops in rows}
    lines = {}
    for key, contender in found.items():
        row = f"{rows[-1][0]}×{rows[-1][1]}" if key == "decided" else key.partition(" ")[2]
        lines[key] = Line(contender.title, per_image.get(row, 0), contender.bound_by)
    return lines


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="the same on the CPU, tiny, and writing nothing")
    parser.add_argument("--device", default="cuda", help="[%(default)s]")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float16")
    parser.add_argument("--backend", choices=("torch", "compiled"), default="torch", help="of ours [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="at most [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement [%(default)s]")
    parser.add_argument("--within", type=float, default=420.0, help="seconds for all of it [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results-cuda.md"), help="[%(default)s]")
    return parser


def text_of(arguments: argparse.Namespace, words: Sequence[str]) -> str:
    """Measure, and give the text of the results."""
    deadline = time.monotonic() + arguments.within
    sizes = TINY if arguments.dry_run else FULL
    device = choose_device("cpu" if arguments.dry_run else arguments.device)
    precision: Precision = "float32" if arguments.dry_run else arguments.precision
    dtype = getattr(torch, precision)
    products = products_per_second(device, dtype, sizes.product)
    copies = bytes_per_second(device, sizes.copied)
    operations = gflop_per_pass(sizes.width, CLASSES) * 1e9
    traffic = activation_bytes(sizes.width, dtype.itemsize)
    arithmetic = f"{products.median / 1e12:.3g} TFLOP/s, n = {products.n}"
    bandwidth = f"{copies.median / 1e12:.3g} TB/s, n = {copies.n}"
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{device_name(device)}, {precision}; ours: backend {arguments.backend}",
        "clocks before": clocks(),
        **machine_facts(),
        "networks": f"{sizes.members} GoogLeNets of width {sizes.width:g}, {CLASSES} classes, random weights",
        "arithmetic": f"{arithmetic}; a pass takes {operations / 1e9:.2f} GFLOP",
        "bandwidth": f"{bandwidth}; a pass takes {traffic / 1e6:.1f} MB",
        "command": f"`{shlex.join(['python', '-m', 'benchmarks.cuda', *words])}`",
    }
    with tempfile.TemporaryDirectory() as folder:
        ensemble = write_ensemble(Path(folder) / "networks", sizes.members, sizes.width)
        compiler = "eager" if arguments.dry_run else "inductor"
        scene = Scene(ensemble, device, precision, arguments.backend, compiler, sizes.rows, Path(folder))
        facts["batches and loaders"] = f"{scene.batch} crops, {scene.loaders} threads"
        found = contenders(scene)
        measured = list(measure(found, arguments.rounds, arguments.seconds, deadline, lambda: wait_for(device)))
    facts["clocks after"] = clocks()
    ceilings = Ceilings(products.median / operations, copies.median / traffic)
    return results_text(lines_of(found, sizes.rows), measured, ceilings, facts, NOTES)


def main(words: Sequence[str]) -> None:
    """See the module."""
    arguments = options().parse_args(words)
    text = text_of(arguments, words)
    if not arguments.dry_run:
        arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
