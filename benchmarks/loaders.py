"""What the interpreter's lock costs loaders: `python -m benchmarks.loaders`.

Images a second of 1 to 8 loaders, three ways: as processes of one loader each, which share nothing; as threads of
one process; and as such threads beside the engine, whose members return at once. What threads lose to processes is
the cost of the lock. What the engine takes beside them is its own work, and again the cost of the lock.
"""

import argparse
import io
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from multiprocessing.pool import Pool

import torch
from PIL import Image, ImageFilter

from benchmarks.machine import machine_facts
from benchmarks.results import spread
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.engine.full_scores import ScoredImage
from ensemble_eval.engine.loop import Engine
from ensemble_eval.engine.pool import ReadyImage, UnreadableImage
from ensemble_eval.jobs.prefetch import load_images

_COUNTS = (1, 2, 4, 8)
_CLASSES = 1000
_CPU = torch.device("cpu")


@lru_cache
def _picture() -> bytes:
    """A picture of ImageNet's usual size and bytes: smoothed noise, 500 × 375, some 100 KiB."""
    noise = Image.effect_noise((500, 375), 90).convert("RGB").filter(ImageFilter.GaussianBlur(0.7))
    data = io.BytesIO()
    noise.save(data, "JPEG", quality=90)
    return data.getvalue()


def _items(count: int) -> list[tuple[int, Item]]:
    return list(enumerate(Dataset.of([(f"{index}.jpg", 0, _picture()) for index in range(count)]).items))


def threads_rate(items: Sequence[tuple[int, Item]], scheme: int, loaders: int) -> float:
    """Images a second of loaders as threads."""
    began = time.perf_counter()
    for _ in _loaded(items, scheme, loaders):
        pass
    return len(items) / (time.perf_counter() - began)


def engine_rate(items: Sequence[tuple[int, Item]], scheme: int, loaders: int) -> float:
    """Images a second of loaders as threads, beside the engine."""
    outcome = torch.full((16, _CLASSES), 1 / _CLASSES)
    engine = Engine({"a": lambda _: outcome}, lambda image: ScoredImage(image, 1, _CLASSES), _CPU, 16)
    began = time.perf_counter()
    for _ in engine.run(_loaded(items, scheme, loaders)):
        pass
    return len(items) / (time.perf_counter() - began)


def processes_rate(pool: Pool, count: int, scheme: int, loaders: int) -> float:
    """Images a second of loaders as processes."""
    began = time.perf_counter()
    pool.starmap(_load_alone, [(count // loaders, scheme)] * loaders, chunksize=1)
    return count / (time.perf_counter() - began)


def _loaded(
    items: Sequence[tuple[int, Item]], scheme: int, loaders: int
) -> Iterator[ReadyImage | UnreadableImage]:
    return load_images(items, CropRule((GOOGLENET,), scheme), workers=loaders, ahead=max(32, 2 * loaders))


def _load_alone(count: int, scheme: int) -> None:
    torch.set_num_threads(1)
    for _ in _loaded(_items(count), scheme, 1):
        pass


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--scheme", type=int, default=1)
    arguments = parser.parse_args()
    for name, fact in machine_facts().items():
        print(f"{name}: {fact}")
    torch.set_num_threads(1)
    items = _items(arguments.images)
    rates: dict[tuple[str, int], list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(max(_COUNTS)) as pool:
        pool.starmap(_load_alone, [(8, arguments.scheme)] * 4 * max(_COUNTS), chunksize=1)
        for _ in range(arguments.rounds):
            for loaders in random.sample(_COUNTS, len(_COUNTS)):
                once = {
                    "threads": threads_rate(items, arguments.scheme, loaders),
                    "threads beside the engine": engine_rate(items, arguments.scheme, loaders),
                    "processes": processes_rate(pool, arguments.images, arguments.scheme, loaders),
                }
                for way, rate in once.items():
                    rates.setdefault((way, loaders), []).append(rate)
    for (way, loaders), values in sorted(rates.items()):
        print(f"{loaders} {way}: {spread(values).text(0)} images/s, n = {len(values)}")


if __name__ == "__main__":
    main()
