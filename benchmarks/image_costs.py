"""What an image costs besides its passes: bytes read, seconds of one core, bytes written and read again.

    OMP_NUM_THREADS=1 python benchmarks/image_costs.py val/

These are the measured figures of docs/cluster.md. Seconds are of the processor, so other work on the machine
counts only where it takes caches and clock away.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ensemble_eval.crops import pixels
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import read_protocol
from ensemble_eval.datasets.folders import is_image
from ensemble_eval.engine.full_scores import ImageScores
from ensemble_eval.evaluation.job import rows_of
from ensemble_eval.evaluation.key import RUN, MemberKey, RunKey
from ensemble_eval.store.parts import Part
from ensemble_eval.store.store import Store

CLASSES = 1000
MEMBERS = tuple("abcdefg")
IMAGES_PER_PART = 256


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--protocol", default="googlenet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in arguments.folder.rglob("*") if is_image(path))[: arguments.images]
    files = [path.read_bytes() for path in paths]
    print(f"{len(files)} images, {statistics.mean(map(len, files)) / 1000:.0f} kB each")
    protocol = read_protocol(arguments.protocol)
    rule = CropRule((protocol,), protocol.schemes[-1])
    rounds = [pixel_seconds(files, rule) for _ in range(arguments.rounds)]
    for name, seconds in zip(("decode", "resize"), zip(*rounds, strict=True), strict=True):
        best, worst = 1000 * min(seconds), 1000 * max(seconds)
        print(f"{name} {statistics.median(seconds) * 1000:.1f} ms an image ({best:.1f} to {worst:.1f})")
    for with_scores in (True, False):
        print_part_costs(with_scores=with_scores)


def pixel_seconds(files: list[bytes], rule: CropRule) -> tuple[float, float]:
    """Processor seconds an image to decode, and to resize for all crops of a rule."""
    decoding = resizing = 0.0
    for data in files:
        began = time.thread_time()
        image = pixels.decode(data)
        decoded = time.thread_time()
        _, height, width = image.shape
        pixels.prepare(image, rule.plan(width, height))
        decoding, resizing = decoding + decoded - began, resizing + time.thread_time() - decoded
    return decoding / len(files), resizing / len(files)


def print_part_costs(*, with_scores: bool, parts: int = 2) -> None:
    """Bytes an image in a part of seven members, and seconds to write it and to read it for the tables."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        images = parts * IMAGES_PER_PART
        key = RunKey(
            crops=144,
            precision="float32",
            backend="torch",
            device_type="cpu",
            scores=with_scores,
            until_decided=(),
            interpolation="bilinear",
            classes=CLASSES,
            dataset="drawn",
            images=images,
            members=tuple(
                MemberKey(name=name, weights="", arch="googlenet", options={}, input={}) for name in MEMBERS
            ),
        )
        store = Store(Path(name), RUN, key)
        written = 0.0
        for part in range(parts):
            scores = list(image_scores(rng, part))
            began = time.process_time()
            rows = [row for image in scores for row in rows_of(image, key, [image.label])]
            store.write(Part(rows, [image.id for image in scores]))
            written += time.process_time() - began
        size = sum(path.stat().st_size for path in Path(name).rglob("part-*"))
        began = time.process_time()
        store.open()
        checked = time.process_time()
        store.frame(["image", "member", "crops", "rank"])
        read = time.process_time()
    print(
        f"scores {'all' if with_scores else 'none'}: {size / images / 1000:.2f} kB an image; "
        f"write {1000 * written / images:.2f} ms, check {1000 * (checked - began) / images:.3f} ms, "
        f"read for the tables {1000 * (read - checked) / images:.3f} ms"
    )


def image_scores(rng: np.random.Generator, part: int) -> Iterator[ImageScores]:
    """Softmax vectors as peaked as a trained network's, which no compression makes much smaller."""
    for image in range(IMAGES_PER_PART):
        scores = {}
        for scheme in (1, 10, 144):
            odds = np.exp(rng.normal(0, 3, (len(MEMBERS), CLASSES)))
            scores[scheme] = odds / odds.sum(axis=1, keepdims=True)
        yield ImageScores(f"n01440764/ILSVRC2012_val_{part * IMAGES_PER_PART + image:08}.JPEG", 0, scores, 1008)


if __name__ == "__main__":
    main()
