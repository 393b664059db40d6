"""Measure all contenders side by side and write results.md: `python -m benchmarks.compare --images DIR`.

Every measurement is a fresh process. In every round each contender runs once, in an order of its own, so that
a machine that grows slower or faster meanwhile does so for all of them; ratios are taken within rounds.
"""

import argparse
import itertools
import json
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.ceiling import ceiling_text, gflop_per_pass, matrix_products
from benchmarks.files import ROOT, labels_of, sample, write_images, write_networks
from benchmarks.machine import machine_facts
from benchmarks.networks import CLASSES
from benchmarks.registry import CONTENDERS, chosen
from benchmarks.results import Measurement, results_text, useful_rate
from benchmarks.work import PRECISIONS, Cost

NOTES = (
    "Rates are per pass, so contenders that were given fewer images compare with the others.",
    "Useful passes are those of the answer, 144 crops of every image through every member. Six runs give it once, "
    "with more forward passes; `--until-decided` gives the table with fewer. No image is square: crops that "
    "coincide would be run once by ours.",
    "The times are from the files to the averaged scores, without loading, compiling and warming up; ours are the "
    "`seconds` of its own run.json.",
    "Cells are median (least–greatest) over the rounds; ratios are taken round by round.",
)


RANDOM_NOTE = (
    "The networks have random weights and every label is 0: what `--until-decided` saves depends on both, "
    "and is another with trained networks."
)


def command_of(key: str, arguments: argparse.Namespace, ensemble: Path, data: tuple[Path, Path]) -> list[str]:
    """The command line that starts one contender on its images."""
    contender = CONTENDERS[key]
    images, labels = data
    batch = contender.batch or arguments.batch
    words = ["-m", f"benchmarks.contenders.{contender.module}", "--ensemble", str(ensemble)]
    words += ["--images", str(images), "--labels", str(labels), "--batch", str(batch)]
    words += ["--precision", contender.precision or arguments.precision]
    own = (word.format(backend=arguments.backend) for word in contender.options)
    return [sys.executable, *words, *own]


def run(command: Sequence[str]) -> Cost:
    """Run one contender to its end.

    Raises:
        SystemExit: it failed; with all that it said.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{shlex.join(command)}\nfailed with {done.returncode}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def measure(commands: Mapping[str, Sequence[str]], rounds: int, seed: int) -> Iterator[Measurement]:
    """Run every contender once a round, in a random order."""
    for number in range(1, rounds + 1):
        keys = list(commands)
        random.Random(f"{seed}-{number}").shuffle(keys)
        for key in keys:
            yield Measurement(key, number, run(commands[key]))


def image_counts(keys: Sequence[str], count: int, exceptions: Mapping[str, int]) -> dict[str, int]:
    """How many images each contender gets: as the exceptions say, as is its own, never more than `count`."""
    counts = {}
    for key in keys:
        own = min(CONTENDERS[key].images or count, count)
        counts[key] = exceptions.get(key, exceptions.get(key[0], own))
    return counts


def label_source(arguments: argparse.Namespace) -> Callable[[Path], str]:
    """Where an image's label stands: in the CSV, else in its folder's name; random networks need none."""
    if arguments.labels:
        return labels_of(arguments.labels)
    return (lambda path: path.parent.name) if arguments.ensemble else (lambda _: "0")


def counts_from(text: str) -> dict[str, int]:
    """`d=2,f=4` as a dictionary."""
    return {name: int(number) for name, _, number in (part.partition("=") for part in text.split(",") if part)}


def command_text(words: Sequence[str]) -> str:
    """The command to print; of paths that lead elsewhere only the names: their places are the machine's."""
    return f"`{shlex.join(['python', '-m', 'benchmarks.compare', *map(_shown, words)])}`"


def _shown(word: str) -> str:
    option, equals, value = word.rpartition("=")
    path = Path(value)
    leads_elsewhere = path.is_absolute() or ".." in path.parts
    return f"{option}{equals}{path.name}" if leads_elsewhere else word


def compare(arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """Make what is needed in `folder`, measure, and tell on the way."""
    keys = chosen(arguments.contenders.split(","))
    counts = image_counts(keys, arguments.count, counts_from(arguments.counts))
    ensemble = arguments.ensemble or write_networks(folder / "networks", arguments.members, arguments.width)
    label_of = label_source(arguments)
    images = list(itertools.islice(sample(arguments.images, arguments.seed), max(counts.values())))
    data = {count: write_images(folder, images, count, label_of) for count in set(counts.values())}
    commands = {key: command_of(key, arguments, ensemble, data[counts[key]]) for key in keys}
    measurements = []
    for one in measure(commands, arguments.rounds, arguments.seed):
        measurements.append(one)
        rate = f"{useful_rate(one):7.1f} useful passes/s in {one.cost.seconds:.1f} s"
        print(f"round {one.round}/{arguments.rounds}  {one.contender:4}  {rate}", file=sys.stderr, flush=True)
    return measurements


def options() -> argparse.ArgumentParser:
    """The harness's command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs, at any depth")
    parser.add_argument("--contenders", default="a,b,c,d,e,f,g", help="by letter, or c16, c48, c144 [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contender [%(default)s]")
    parser.add_argument("--count", type=int, default=8, help="images for each contender [%(default)s]")
    parser.add_argument("--counts", default="", help="images for some, as d=2,f=4 [the slow ones get fewer]")
    parser.add_argument(
        "--ensemble", type=Path, help="manifest of trained networks, whose code is run [random ones]"
    )
    parser.add_argument(
        "--labels", type=Path, help="CSV file,label for --images [its folder; with random networks 0]"
    )
    parser.add_argument("--members", type=int, default=7, help="networks of the ensemble [%(default)s]")
    parser.add_argument("--width", type=float, default=1.0, help="their width [%(default)s]")
    parser.add_argument(
        "--batch", type=int, default=16, help="crops per batch of ours and the bound [%(default)s]"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="bfloat16", help="of all but d and f [%(default)s]"
    )
    parser.add_argument("--backend", default="openvino", help="of ours [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the images' choice and the order [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.md"), help="[%(default)s]")
    return parser


def networks_text(arguments: argparse.Namespace) -> str:
    """What the ensemble is, for the results."""
    if arguments.ensemble:
        return f"the trained ones of {arguments.ensemble.name}"
    return f"{arguments.members} GoogLeNets of width {arguments.width:g}, 1000 classes, random weights"


def main(words: Sequence[str]) -> None:
    """See the module."""
    arguments = options().parse_args(words)
    facts = {"date": time.strftime("%Y-%m-%d"), **machine_facts()}
    facts["networks"] = networks_text(arguments)
    facts["ours and the bound"] = f"batches of {arguments.batch}"
    gflop = None if arguments.ensemble else gflop_per_pass(arguments.width, CLASSES)
    facts["ceiling"] = (
        f"matrix products in {arguments.precision}, {ceiling_text(matrix_products(arguments.precision), gflop)}"
    )
    facts["command"] = command_text(words)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measurements = compare(arguments, Path(folder))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    titles = {key: one.title.format(precision=arguments.precision) for key, one in CONTENDERS.items()}
    trained = arguments.ensemble is not None
    notes = NOTES if trained else (*NOTES, RANDOM_NOTE)
    text = results_text(titles, measurements, facts, notes, trained=trained)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
