"""A data set on disk: `DIR/<class name>/<split>_<index:08d>.JPEG`, told apart by `DIR/demo-data.json`.

`DIR/boxes.json` holds the boxes of the objects where they were asked for.
"""

import io
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ensemble_eval.demo_data.boxes import VisibleObject, coco_json, visible_objects
from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.pictures import DEFAULT_DIFFICULTY, SEED_LIMIT, SPLITS, Split, draw_picture, label_of
from ensemble_eval.demo_data.scene import Difficulty
from ensemble_eval.errors import EnsembleEvalError, InputError
from ensemble_eval.files import write_atomically
from ensemble_eval.jobs.signals import die_with

GENERATOR_VERSION = 1
"""To be raised with every change of the code that changes a pixel."""

DESCRIPTION_NAME = "demo-data.json"

BOXES_NAME = "boxes.json"

_PICTURES_PER_TASK = 8


@dataclass(frozen=True)
class DrawnDataset:
    """How many pictures were there before, and how many were drawn now."""

    found: int
    drawn: int


def draw_dataset(
    directory: Path,
    split: Split,
    images: int,
    seed: int,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    boxes: bool = False,
) -> DrawnDataset:
    """Draw a labelled data set of `images` pictures into class folders, or complete a half-drawn one.

    `workers` processes draw (all processors where None; 1 draws in this process); the files do not depend on
    their number. `on_progress` is told the number of pictures that are there and that there will be. With
    `boxes`, the objects of every picture are written to `boxes.json` (see `boxes.coco_json`); pictures that are
    there already are drawn again for it, and left as they are.
    Raises InputError for impossible values, a directory that holds something else, or one that refuses files.
    """
    _check(split, images, seed, workers)
    # All that the pixels depend on: data sets of the same description are the same files.
    description = {
        "split": split,
        "images": images,
        "seed": seed,
        "generator_version": GENERATOR_VERSION,
        "difficulty": asdict(difficulty),
    }
    try:
        _claim(directory, description)
        missing = [i for i in range(images) if not _picture_path(directory, split, seed, i).exists()]
        wants_boxes = boxes and not (directory / BOXES_NAME).exists()
        todo = range(images) if wants_boxes else missing
        draw = partial(_write_picture, directory, split, seed, difficulty)
        drawn: list[DrawnPicture] = []
        with _drawing(draw, todo, workers or os.cpu_count() or 1) as written:
            for picture in written:
                drawn.append(picture)
                if on_progress is not None:
                    on_progress(images - len(todo) + len(drawn), images)
        if wants_boxes:
            write_atomically(directory / BOXES_NAME, coco_json(drawn).encode())
    except OSError as error:
        raise InputError(
            f"cannot write the data set into {directory} ({error.strerror or error}); "
            "make room or name a directory that you may write to"
        ) from error
    except BrokenProcessPool as error:
        raise EnsembleEvalError(
            f"a process that drew into {directory} was killed; repeat the command, with fewer workers"
        ) from error
    return DrawnDataset(found=images - len(missing), drawn=len(missing))


def _check(split: str, images: int, seed: int, workers: int | None) -> None:
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if not 1 <= images <= SEED_LIMIT:
        raise InputError(f"cannot draw {images} images; ask for at least 1")
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed {seed} is out of range; choose one from 0 to {SEED_LIMIT - 1}")
    if workers is not None and workers < 1:
        raise InputError(f"cannot draw with {workers} workers; ask for at least 1")


def _claim(directory: Path, description: dict[str, Any]) -> None:
    """Make the directory this data set's own, with all its class folders."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; name a directory for the data set")
    path, text = directory / DESCRIPTION_NAME, json.dumps(description, indent=2) + "\n"
    if path.exists():
        _check_same(path, json.loads(text))
    elif directory.exists() and not all(p.name.startswith(".") for p in directory.iterdir()):
        raise InputError(
            f"{directory} is not empty and holds no {DESCRIPTION_NAME}; name an empty or a new directory"
        )
    else:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    for name in CLASS_NAMES:
        (directory / name).mkdir(exist_ok=True)


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise InputError(f"{path} is no description of a data set; name an empty or a new directory")
    for key in (key for key in (*wanted, *there) if there.get(key) != wanted.get(key)):
        raise InputError(
            f"{path.parent} holds another data set ({key} {there.get(key)}, not {wanted.get(key)}); "
            "name an empty or a new directory, or repeat the command that drew it"
        )


DrawnPicture = tuple[str, tuple[int, int], list[VisibleObject]]
"""Path below the data set, (width, height), and what it shows."""


@contextmanager
def _drawing(
    draw: Callable[[int], DrawnPicture], indices: Sequence[int], workers: int
) -> Iterator[Iterable[DrawnPicture]]:
    """One item per picture, when it is written; what is not begun when the block ends is left undone."""
    workers = min(workers, -(-len(indices) // _PICTURES_PER_TASK))
    if workers <= 1:
        yield map(draw, indices)
        return
    # Spawned, not forked: a caller with torch's threads in it must not be copied.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _obey_the_caller, (os.getpid(),))
    try:
        yield pool.map(draw, indices, chunksize=_PICTURES_PER_TASK)
    finally:
        # Without waiting: a second Ctrl-C inside a waiting shutdown leaves the pool stuck for good.
        pool.shutdown(wait=False, cancel_futures=True)


def _obey_the_caller(caller: int) -> None:
    """In a worker: Ctrl-C is the caller's to answer, and the caller's death is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(caller)


def _write_picture(directory: Path, split: Split, seed: int, difficulty: Difficulty, index: int) -> DrawnPicture:
    """Write a picture that is not there yet."""
    picture = draw_picture(split, seed, index, difficulty)
    path = _picture_path(directory, split, seed, index)
    if not path.exists():
        jpeg = io.BytesIO()
        picture.image.save(jpeg, format="JPEG", quality=picture.jpeg_quality)
        write_atomically(path, jpeg.getvalue())
    size = picture.image.size
    return path.relative_to(directory).as_posix(), size, visible_objects(picture.layers, size)


def _picture_path(directory: Path, split: Split, seed: int, index: int) -> Path:
    return directory / CLASS_NAMES[label_of(split, seed, index)] / f"{split}_{index:08d}.JPEG"
