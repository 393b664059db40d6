"""What the measured programs are given: random networks and a flat folder of images, in a temporary place."""

import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from benchmarks.work import CROPS
from ensemble_eval.crops import plan

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
        return len(plan(image.width, image.height, CROPS).views) == CROPS


def write_images(folder: Path, images: Iterable[Path], count: int) -> tuple[Path, Path]:
    """Make a flat folder of `count` images and a CSV that labels all of them 0.

    Where there are not enough, they come again under other names, as hard links.

    Returns:
        The folder of the images and the CSV beside it.
    """
    flat = folder / f"images-{count}"
    flat.mkdir(parents=True)
    copies: list[Path] = []
    for index, path in zip(range(count), images, strict=False):
        copies.append(flat / f"{index:06}{path.suffix.lower()}")
        shutil.copyfile(path, copies[-1])
    for name, path in zip(_names(len(copies), count), itertools.cycle(copies), strict=False):
        os.link(path, flat / f"{name}{path.suffix}")
    labels = folder / f"labels-{count}.csv"
    labels.write_text("file,label\n" + "".join(f"{path.name},0\n" for path in sorted(flat.iterdir())))
    return flat, labels


def _names(start: int, end: int) -> Iterator[str]:
    return (f"{index:06}" for index in range(start, end))
