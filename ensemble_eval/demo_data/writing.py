"""A data set on disk: `DIR/<class name>/<split>_<index:08d>.JPEG`, described in `DIR/demo-data.json`.

`DIR/boxes.json` holds the boxes of the objects, in COCO's format, if they were asked for.
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

import numpy as np
from PIL import Image

from ensemble_eval.demo_data.classes import CLASS_NAMES
from ensemble_eval.demo_data.objects import Layer
from ensemble_eval.demo_data.pictures import SEED_LIMIT, Split, draw_picture, label_of
from ensemble_eval.demo_data.scene import DIFFICULTY
from ensemble_eval.errors import EnsembleEvalError, InputError, refusing
from ensemble_eval.files import write_atomically
from ensemble_eval.jobs.signals import die_with

GENERATOR_VERSION = 1
"""To be raised with every change of the code that changes a pixel."""

DESCRIPTION_NAME = "demo-data.json"

BOXES_NAME = "boxes.json"

_PICTURES_PER_TASK = 8
# Antialiased borders belong to an object where it covers at least half of the pixel.
_COVERED = 128
# As a person who draws boxes would say "difficult" (PASCAL VOC): of the object too little is left to name it.
DIFFICULT_BELOW = 0.25


@dataclass(frozen=True)
class VisibleObject:
    """An object, as far as a picture shows it.

    Attributes:
        class_name: Its class.
        box: Left, top, right and bottom of its visible pixels; right and bottom are the first pixels beyond.
        pixels: The number of its visible pixels.
        visible_share: The share of its pixels in the picture that nothing else hides.
    """

    class_name: str
    box: tuple[int, int, int, int]
    pixels: int
    visible_share: float


DrawnPicture = tuple[str, tuple[int, int], list[VisibleObject]]
"""The picture's path below the data set, its (width, height), and the objects that it shows."""


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
    on_progress: Callable[[int], object] = lambda _: None,
    boxes: bool = False,
) -> DrawnDataset:
    """Draw a labelled data set into class folders, or complete a half-drawn one.

    Args:
        directory: The data set's folder.
        split: What the pictures are for; the two splits share none.
        images: How many pictures the data set has.
        seed: The same seed draws the same pixels.
        workers: Processes that draw, by default as many as there are processors; 1 draws in this process. The
            files do not depend on it.
        on_progress: Called with the number of pictures that are there, after each picture.
        boxes: Also write the objects of every picture to `boxes.json`. Pictures that are there already are drawn
            again for it, and their files stay as they are.

    Raises:
        InputError: A value is impossible, the directory holds something else, or it refuses files.
        EnsembleEvalError: A process that drew was killed.
    """
    _check(images, seed, workers)
    # All that the pixels depend on: data sets of the same description are the same files.
    description = {
        "split": split,
        "images": images,
        "seed": seed,
        "generator_version": GENERATOR_VERSION,
        "difficulty": asdict(DIFFICULTY),
    }
    remedy = "make room or name a directory that you may write to"
    try:
        with refusing(f"cannot write the data set into {directory}", remedy, OSError):
            _claim(directory, description)
            missing = [i for i in range(images) if not _picture_path(directory, split, seed, i).exists()]
            wants_boxes = boxes and not (directory / BOXES_NAME).exists()
            todo = range(images) if wants_boxes else missing
            draw = partial(_write_picture, directory, split, seed)
            drawn: list[DrawnPicture] = []
            with _drawing(draw, todo, workers or os.cpu_count() or 1) as written:
                for picture in written:
                    drawn.append(picture)
                    on_progress(images - len(todo) + len(drawn))
            if wants_boxes:
                write_atomically(directory / BOXES_NAME, coco_json(drawn).encode())
    except BrokenProcessPool as error:
        raise EnsembleEvalError(
            f"a process that drew into {directory} was killed; repeat the command, with fewer workers"
        ) from error
    return DrawnDataset(found=images - len(missing), drawn=len(missing))


def _check(images: int, seed: int, workers: int | None) -> None:
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


def _write_picture(directory: Path, split: Split, seed: int, index: int) -> DrawnPicture:
    """Write a picture that is not there yet."""
    picture = draw_picture(split, seed, index)
    path = _picture_path(directory, split, seed, index)
    if not path.exists():
        jpeg = io.BytesIO()
        picture.image.save(jpeg, format="JPEG", quality=picture.jpeg_quality)
        write_atomically(path, jpeg.getvalue())
    size = picture.image.size
    return path.relative_to(directory).as_posix(), size, visible_objects(picture.layers, size)


def _picture_path(directory: Path, split: Split, seed: int, index: int) -> Path:
    return directory / CLASS_NAMES[label_of(split, seed, index)] / f"{split}_{index:08d}.JPEG"


def visible_objects(layers: Sequence[Layer], size: tuple[int, int]) -> list[VisibleObject]:
    """The objects of which at least one pixel is visible, in the order in which they were painted.

    Args:
        layers: What was painted, in this order: each layer hides what lies below it.
        size: The width and the height of the picture.
    """
    hidden = np.zeros((size[1], size[0]), dtype=bool)
    found = []
    for layer in reversed(layers):
        left, top, right, bottom = layer.stencil.box
        covered = np.zeros_like(hidden)
        covered[top:bottom, left:right] = np.asarray(layer.stencil.mask) >= _COVERED
        visible = covered & ~hidden
        box = Image.fromarray(visible).getbbox()
        if layer.class_name is not None and box is not None:
            pixels = int(np.count_nonzero(visible))
            found.append(VisibleObject(layer.class_name, box, pixels, pixels / int(np.count_nonzero(covered))))
        hidden |= covered
    return found[::-1]


def coco_json(pictures: Iterable[DrawnPicture]) -> str:
    """The boxes of a data set in COCO's format for object detection.

    Beside COCO's own keys, each annotation has `visible_share`, and `difficult` (0 or 1) as in PASCAL VOC.
    Pictures, annotations and categories are numbered from 1, each in their order.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (path, (width, height), objects) in enumerate(pictures, start=1):
        entries.append({"id": number, "file_name": path, "width": width, "height": height})
        for each in objects:
            left, top, right, bottom = each.box
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": CLASS_NAMES.index(each.class_name) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": each.pixels,
                "iscrowd": 0,
                "difficult": int(each.visible_share < DIFFICULT_BELOW),
                "visible_share": round(each.visible_share, 4),
            }
            annotations.append(annotation)
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASS_NAMES, start=1)]
    return json.dumps({"images": entries, "annotations": annotations, "categories": categories}, indent=1) + "\n"
