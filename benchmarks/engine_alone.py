"""What the engine itself costs: `python -m benchmarks.engine_alone`.

Images a second of the engine with members that return at once, on pictures that are decoded already. What is left
is the engine's own work: cutting crops, putting batches together, and adding up what comes back. Run it in two
checkouts to compare them.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import machine_facts
from benchmarks.results import spread
from ensemble_eval.crops.gathering import Gatherer
from ensemble_eval.crops.pixels import CropSource, prepare
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import PROTOCOLS
from ensemble_eval.engine.full_scores import ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage

_CPU = torch.device("cpu")
_CLASSES = 1000
# ImageNet's most frequent size.
_WIDTH, _HEIGHT = 500, 375


class Case(NamedTuple):
    """One configuration: `models` × `crops` of a protocol, and how many images make a measurable time."""

    models: int
    crops: int
    images: int
    protocol: str = "googlenet"


_CASES = (Case(1, 1, 2000), Case(1, 10, 400), Case(7, 144, 10), Case(7, 144, 10, "inception-299"))


def rate(case: Case, source: CropSource, batch_size: int) -> float:
    """Images a second; all images share their pixels, because only the engine's work is of interest."""
    outcome = torch.full((batch_size, _CLASSES), 1 / _CLASSES)

    def predict(_crops: Tensor) -> Tensor:
        return outcome

    members = {str(index): predict for index in range(case.models)}
    images = [ReadyImage(position, str(position), 0, source) for position in range(case.images)]
    engine = Engine(members, lambda image: ScoredImage(image, case.models, _CLASSES), _CPU, batch_size)
    began = time.perf_counter()
    for _ in engine.run(images):
        pass
    return case.images / (time.perf_counter() - began)


def cutting_rates(source: CropSource, batch_size: int) -> tuple[float, float]:
    """Crops a second, cut one by one or gathered by a few operations as for a GPU; both on the CPU."""
    views = [source.plan.views[row % len(source.plan.views)] for row in range(batch_size)]
    size = views[0].size
    crops = torch.empty(batch_size, size, size, 3, dtype=torch.uint8)
    gather = Gatherer(_CPU)

    def cut() -> None:
        for row, view in enumerate(views):
            crops[row].permute(2, 0, 1).copy_(source.cut(view))

    def gathered() -> None:
        gather(source.pixels, torch.tensor([source.address(view) for view in views]), crops)

    return batch_size / _seconds(cut), batch_size / _seconds(gathered)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case in each round, in a random order, and print the medians and the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of which the median is printed")
    parser.add_argument(
        "--batch-size", type=int, default=288, metavar="N", help="crops per batch; CUDA's by default"
    )
    parser.add_argument("--shorten", type=int, default=1, metavar="N", help="run an Nth of the images only")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    image = torch.randint(0, 256, (3, _HEIGHT, _WIDTH), dtype=torch.uint8)
    cases = [case._replace(images=max(1, case.images // options.shorten)) for case in _CASES]
    rules = {case: CropRule((PROTOCOLS[case.protocol],) * case.models, case.crops) for case in cases}
    sources = {case: prepare(image, rule.plan(_WIDTH, _HEIGHT)) for case, rule in rules.items()}
    rates: dict[Case, list[float]] = {case: [] for case in cases}
    largest = {case.protocol: sources[case] for case in cases if case.crops == 144}
    cut_and_gathered: dict[str, list[tuple[float, float]]] = {protocol: [] for protocol in largest}
    for _ in range(options.rounds):
        for protocol, source in largest.items():
            cut_and_gathered[protocol].append(cutting_rates(source, options.batch_size))
        for case in random.sample(cases, len(cases)):
            rates[case].append(rate(case, sources[case], options.batch_size))
    for name, fact in machine_facts().items():
        print(f"{name}: {fact}")
    for protocol, both in cut_and_gathered.items():
        for way, values in zip(("cut one by one", "gathered"), zip(*both, strict=True), strict=True):
            print(f"{protocol}, {way}: {spread(values).text(0)} crops/s, n = {len(values)}")
    for case, found in rates.items():
        text = spread(found).text(1)
        what = f"{case.models} × {case.crops} of {case.protocol}, batches of {options.batch_size}"
        print(f"{what}: {text} images/s, n = {len(found)}")


if __name__ == "__main__":
    main()
