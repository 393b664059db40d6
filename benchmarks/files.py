"""What the measured programs are given: random networks and a flat folder of images, in a temporary place."""

import csv
import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from benchmarks.work import CROPS
from ensemble_eval.crops.plan import CropRule
from ensemble_eval.crops.protocols import GOOGLENET

ROOT = Path(__file__).parents[1]
_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})


def write_networks(folder: Path, members: int, width: float) -> Path:
    """See `networks.write_ensemble`; in a process of its own, so that this one stays small."""
    command = [sys.executable, "-m", "benchmarks.networks", str(folder)]
    command += ["--members", str(members), "--width", str(width)]
    written = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(written.splitlines()[-1])


def sample(folder: Path, seed: int) -> Iterator[Path]:
    """The images at any depth below `folder`, in a random order that the seed decides.

    Square images, whose crops coincide, are left out: ours runs a third of their passes, and how many of them
    are among a few would decide the figures.

    Raises:
        ValueError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    random.Random(seed).shuffle(found)
    distinct = (path for path in found if _has_distinct_crops(path))
    if (first := next(distinct, None)) is None:
        raise ValueError(f"{folder} holds no images (JPEG or PNG) that are not square; give another --images")
    yield first
    yield from distinct


def _has_distinct_crops(path: Path) -> bool:
    with Image.open(path) as image:
        return len(CropRule((GOOGLENET,), CROPS).plan(image.width, image.height).views) == CROPS


def write_images(
    folder: Path, images: Iterable[Path], count: int, label_of: Callable[[Path], str] = lambda _: "0"
) -> tuple[Path, Path]:
    """Make a flat folder of `count` images and a CSV with their labels.

    Where there are not enough, they come again under other names, as hard links.

    Args:
        folder: takes both.
        images: what to copy.
        count: how many to make.
        label_of: from an image's path to its label.

    Returns:
        The folder of the images and the CSV beside it.
    """
    flat = folder / f"images-{count}"
    flat.mkdir(parents=True)
    sources = list(itertools.islice(images, count))
    rows = []
    for index, source in zip(range(count), itertools.cycle(sources), strict=False):
        path = flat / f"{index:06}{source.suffix.lower()}"
        if index < len(sources):
            shutil.copyfile(source, path)
        else:
            os.link(flat / f"{index % len(sources):06}{path.suffix}", path)
        rows.append(f"{path.name},{label_of(source)}\n")
    table = folder / f"labels-{count}.csv"
    table.write_text("file,label\n" + "".join(rows))
    return flat, table


def labels_of(path: Path) -> Callable[[Path], str]:
    """The labels of a CSV `file,label`, by the files' names without their folders.

    Raises:
        ValueError: it has no such columns; or, later, no such file.
    """
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} has no columns file and label")
        labels = {Path(row["file"]).name: row["label"] for row in rows}

    def label_of(image: Path) -> str:
        if image.name not in labels:
            raise ValueError(f"{path} has no label for {image.name}")
        return labels[image.name]

    return label_of
