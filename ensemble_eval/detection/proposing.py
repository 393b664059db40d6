"""The job of `ensemble-eval propose`: what is missing is searched, stored and told of."""

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.crops import pixels
from ensemble_eval.crops.schemes import CROP_SIZE
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.detection.box_files import read_box_file
from ensemble_eval.detection.multibox import best_boxes, load_multibox
from ensemble_eval.detection.parts import ImageParts
from ensemble_eval.detection.proposals import (
    PARTS_FOLDER,
    PROPOSAL_SETS,
    RECORD_FILE,
    SCHEMA,
    UNIT,
    Proposals,
    proposals_of,
    row_of,
)
from ensemble_eval.detection.selective_search import (
    DOUBLED,
    RCNN,
    NoProposals,
    Setting,
    require_opencv,
    search_images,
)
from ensemble_eval.errors import InputError, UnreadableImageError
from ensemble_eval.files import csv_text, sha256_of, write_atomically
from ensemble_eval.launch.place import Place, deal
from ensemble_eval.members.ensemble import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models.multibox import MultiBox

UNREADABLE_FILE = "unreadable.csv"
# The paper's.
MULTIBOX_BOXES = 200
_SETTINGS: Mapping[str, Setting] = {"rcnn": RCNN, "doubled": DOUBLED}
_SAVE_EVERY_SECONDS, _PART_ROWS = 30.0, 256
# Fixed, so that boxes do not depend on which images share a batch.
_BATCH_SIZE = 16


@dataclass(frozen=True)
class ProposeSettings:
    """What `ensemble-eval propose` is given.

    Attributes:
        out: folder for the proposals.
        sets: of `PROPOSAL_SETS`, but the one from a file.
        multibox: a MultiBox that `ensemble-eval train` wrote; needed for that set.
        multibox_boxes: its boxes for an image.
        from_file: boxes to be taken over, as CSV or Parquet; see `read_box_file`.
        workers: processes that search.
        fresh: whether to discard what an earlier run left in `out`.
    """

    out: Path
    sets: tuple[str, ...] = ("rcnn", "doubled", "multibox")
    multibox: Path | None = None
    multibox_boxes: int = MULTIBOX_BOXES
    from_file: Path | None = None
    workers: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        known = PROPOSAL_SETS[:-1]
        if unknown := [name for name in self.sets if name not in known]:
            raise InputError(f"`sets` has {unknown[0]!r}; choose among {', '.join(known)}")
        if "multibox" in self.sets and self.multibox is None:
            raise InputError("the set multibox needs `multibox`, the file of a trained MultiBox")
        if not self.sets and self.from_file is None:
            raise InputError("`sets` is empty; name at least one set, or give `from_file`")
        for name in ("workers", "multibox_boxes"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` is at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Proposed:
    """How far the work is, in images times sets, this process's own.

    Attributes:
        done: those that are stored or about to be.
        total: all of this process.
    """

    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """What is there in the end.

    Attributes:
        complete: whether every image has every set; another process may still be at it.
        boxes: the mean number of boxes for an image, by set.
        failed: images without proposals of a set: their id, the set and the reason.
    """

    complete: bool
    boxes: Mapping[str, float]
    failed: tuple[tuple[str, str, str], ...]


def propose(
    dataset: Dataset,
    settings: ProposeSettings,
    place: Place = Place(),  # noqa: B008 (it is frozen)
) -> Generator[Proposed | Finished, None, None]:
    """Search every image that has no proposals yet, and store them; close the generator if you leave it early.

    Args:
        dataset: the images.
        settings: what is proposed, and where it is stored.
        place: of this process, which takes its share.

    Raises:
        InputError: a set cannot be had, or the folder belongs to other settings.
    """
    names = tuple(name for name in PROPOSAL_SETS if name in settings.sets)
    if any(name in _SETTINGS for name in names):
        require_opencv()
    network = None if settings.multibox is None or "multibox" not in names else load_multibox(settings.multibox)
    from_file = None if settings.from_file is None else read_box_file(settings.from_file, dataset)
    names = (*names, "file") if from_file is not None else names
    key = _key(dataset, settings, names)
    parts = ImageParts(settings.out / PARTS_FOLDER, key, SCHEMA, UNIT)
    if settings.fresh:
        parts.clear()
        (settings.out / RECORD_FILE).unlink(missing_ok=True)
    done = parts.open()
    mine = deal(len(dataset.items), place.world, place.session)[place.rank]
    items = [dataset.items[index] for index in mine]
    total, began = len(items) * len(names), time.monotonic()
    finished = sum((item.id, name) in done for item in items for name in names)
    yield Proposed(finished, total)
    buffer = _Buffer(parts)
    try:
        for name in names:
            missing = [item for item in items if (item.id, name) not in done]
            for image, proposals in _search(name, missing, settings, network, from_file):
                buffer.add(row_of(image, name, proposals))
                finished += 1
                yield Proposed(finished, total)
    finally:
        buffer.write()
    yield _finish(settings.out, dataset, parts, key, names, time.monotonic() - began)


def _search(
    name: str,
    items: Sequence[Item],
    settings: ProposeSettings,
    network: MultiBox | None,
    from_file: Mapping[str, Proposals] | None,
) -> Iterator[tuple[str, Proposals]]:
    if name == "file":
        assert from_file is not None
        yield from ((item.id, from_file[item.id]) for item in items)
        return
    unreadable: dict[str, str] = {}
    images = _decoded(items, unreadable)
    if name in _SETTINGS:
        for image, found in search_images(images, _SETTINGS[name], settings.workers):
            yield image, _nothing(found.reason) if isinstance(found, NoProposals) else _unscored(found)
    else:
        assert network is not None
        yield from _boxes_of_network(network, images, settings.multibox_boxes)
    yield from ((image, _nothing(reason)) for image, reason in unreadable.items())


def _decoded(items: Sequence[Item], unreadable: dict[str, str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images uint8 [height, width, 3]; the reasons of those that cannot be read go into `unreadable`."""
    for item in items:
        try:
            yield item.id, pixels.decode(item.read()).permute(1, 2, 0).numpy()
        except UnreadableImageError as error:
            unreadable[item.id] = str(error)


def _boxes_of_network(
    network: MultiBox, images: Iterator[tuple[str, NDArray[np.uint8]]], most: int
) -> Iterator[tuple[str, Proposals]]:
    preprocess = Preprocessing(InputFormat())
    while batch := [each for _, each in zip(range(_BATCH_SIZE), images, strict=False)]:
        pictures = torch.zeros((_BATCH_SIZE, 3, CROP_SIZE, CROP_SIZE), dtype=torch.uint8)
        for row, (_, image) in enumerate(batch):
            pictures[row] = pixels.resize(torch.from_numpy(image).permute(2, 0, 1), CROP_SIZE, CROP_SIZE)
        with torch.inference_mode(), full_float32():
            outputs = network(preprocess(pictures).contiguous(memory_format=torch.channels_last))
            found = best_boxes(network, outputs, most)
        for (name, image), (boxes, scores) in zip(batch, found, strict=False):
            height, width, _ = image.shape
            sides = np.array([width, height, width, height], np.float64)
            yield name, Proposals(boxes.numpy().astype(np.float64) * sides, scores.numpy().astype(np.float64))


def _unscored(boxes: NDArray[np.float64]) -> Proposals:
    return Proposals(boxes, np.zeros(len(boxes)))


def _nothing(reason: str) -> Proposals:
    return replace(_unscored(np.zeros((0, 4))), reason=reason)


class _Buffer:
    """Collects rows, and writes them as a part when they are many or old."""

    def __init__(self, parts: ImageParts) -> None:
        self._parts = parts
        self._rows: list[dict[str, Any]] = []
        self._opened = time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= _PART_ROWS or time.monotonic() - self._opened > _SAVE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        rows, self._rows, self._opened = self._rows, [], time.monotonic()
        self._parts.write(rows)


def _key(dataset: Dataset, settings: ProposeSettings, names: Sequence[str]) -> dict[str, Any]:
    """What proposals depend on."""
    key: dict[str, Any] = {"dataset": dataset.sha256, "sets": list(names)}
    for name in names:
        if name in _SETTINGS:
            key |= {name: asdict(_SETTINGS[name]), "opencv": _version("opencv-contrib-python-headless")}
    if "multibox" in names and settings.multibox is not None:
        key |= {"multibox": sha256_of(settings.multibox), "multibox_boxes": settings.multibox_boxes}
    if settings.from_file is not None:
        key["file"] = sha256_of(settings.from_file)
    return key


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _finish(
    out: Path, dataset: Dataset, parts: ImageParts, key: Mapping[str, Any], names: Sequence[str], seconds: float
) -> Finished:
    """Write the record and the list of what has no proposals, once nothing is missing."""
    rows = parts.read().to_pylist()
    counts = {name: [len(proposals_of(row).boxes) for row in rows if row["proposals"] == name] for name in names}
    means = {name: float(np.mean(of_set)) if of_set else 0.0 for name, of_set in counts.items()}
    failed = tuple((row["image"], row["proposals"], row["reason"]) for row in rows if row["reason"] is not None)
    complete = len(rows) == len(dataset.items) * len(names)
    if complete:
        text = csv_text(["image", "proposals", "reason"], failed)
        write_atomically(out / UNREADABLE_FILE, text.encode())
        record = {"key": dict(key), "sets": list(names), "images": len(dataset.items), "boxes": means}
        record |= {"seconds": round(seconds, 1), "torch": torch.__version__}
        write_atomically(out / RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())
    return Finished(complete, means, failed)
