"""The job of `ensemble-eval propose`: what is missing is searched, stored and told of."""

import contextlib
import functools
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
from ensemble_eval.detection.parts import ImageParts, RowBuffer
from ensemble_eval.detection.proposals import (
    RECORD_FILE,
    Proposals,
    parts_of,
    read_record,
    row_of,
)
from ensemble_eval.detection.ranks import Ranks, ranks_to_start, run_ranks
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
from ensemble_eval.launch.cpu import usable_processors
from ensemble_eval.launch.machine_share import settle
from ensemble_eval.launch.place import Place, deal
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.results.in_use import in_use
from ensemble_eval.settings import FROM_FILE, ProposeSettings

UNREADABLE_FILE = "unreadable.csv"
_SETTINGS: Mapping[str, Setting] = {"rcnn": RCNN, "doubled": DOUBLED}
_PART_IMAGES = 256

Method = Callable[[Sequence[Item]], Iterator[tuple[str, Proposals]]]
# Fixed, so that boxes do not depend on which images share a batch.
_BATCH_SIZE = 16


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
        complete: whether every image has every set; if not, another process is still at it, and there is no more
            to say.
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
    ranks: Ranks | None = None,
) -> Generator[Proposed | Finished, None, None]:
    """Search every image that has no proposals yet, and store them; close the generator if you leave it early.

    A process that is alone and is asked for ranks starts them, and tells what all of them have stored.

    Args:
        dataset: the images.
        settings: what is proposed, and where it is stored.
        place: of this process, which takes its share.
        ranks: to start; None for none.

    Raises:
        InputError: a set cannot be had, or the folder belongs to other settings.
        WorkerFailedError: a rank failed.
    """
    if settings.fresh and place.world > 1:
        raise InputError(
            f"`fresh=True` could remove what another process has just written; remove {settings.out} instead"
        )
    methods = _methods(dataset, settings)
    keys = {name: _key(dataset, settings, name) for name in methods}
    parts = {name: parts_of(settings.out, name, key) for name, key in keys.items()}
    with in_use(settings.out, alone=settings.fresh):
        if settings.fresh:
            _forget(settings.out, parts)
        if ranks is not None and (count := ranks_to_start(ranks, place, "cpu")):
            yield from _in_ranks(dataset, parts, ranks, count)
        place = settle(place, "cpu")
        mine = [dataset.items[index] for index in deal(len(dataset.items), place.world, place.session)[place.rank]]
        missing: dict[str, list[Item]] = {}
        for name, each in parts.items():
            done = each.open()
            missing[name] = [item for item in mine if item.id not in done]
        total = len(mine) * len(methods)
        finished = total - sum(map(len, missing.values()))
        yield Proposed(finished, total)
        for name, items in missing.items():
            buffer = RowBuffer(parts[name], _PART_IMAGES, settings.save_every)
            try:
                for image, proposals in methods[name](items):
                    buffer.add([row_of(image, name, proposals)])
                    finished += 1
                    yield Proposed(finished, total)
            finally:
                buffer.write()
        yield _finish(settings.out, dataset, keys)


def _in_ranks(
    dataset: Dataset, parts: Mapping[str, ImageParts], ranks: Ranks, count: int
) -> Generator[Proposed, None, None]:
    """Start ranks for what is missing; afterwards nothing is."""
    total = len(dataset.items) * len(parts)
    if sum(len(each.open()) for each in parts.values()) == total:
        return
    with contextlib.closing(run_ranks(ranks, count)) as running:
        for _ in running:
            yield Proposed(sum(len(each.images()) for each in parts.values()), total)


def _methods(dataset: Dataset, settings: ProposeSettings) -> dict[str, Method]:
    """What proposes each of the sets, opened, in the order of `PROPOSAL_SETS`."""
    methods: dict[str, Method] = {}
    workers = settings.workers or usable_processors()
    for name, setting in _SETTINGS.items():
        if name in settings.sets:
            require_opencv()
            methods[name] = functools.partial(_searched, setting=setting, workers=workers)
    if "multibox" in settings.sets and settings.multibox is not None:
        network = load_multibox(settings.multibox)
        methods["multibox"] = functools.partial(_by_network, network=network, most=settings.multibox_boxes)
    if settings.from_file is not None:
        by_image = read_box_file(settings.from_file, dataset)
        methods[FROM_FILE] = lambda items: ((item.id, by_image[item.id]) for item in items)
    return methods


def _forget(out: Path, parts: Mapping[str, ImageParts]) -> None:
    """Discard some sets; what was finished besides stays."""
    if (out / RECORD_FILE).is_file():
        record = read_record(out)
        record["sets"] = {name: key for name, key in record["sets"].items() if name not in parts}
        record["failed"] = [each for each in record["failed"] if each[1] in record["sets"]]
        if record["sets"]:
            _write_record(out, record)
        else:
            (out / RECORD_FILE).unlink()
    for each in parts.values():
        each.clear()


def _searched(items: Sequence[Item], setting: Setting, workers: int) -> Iterator[tuple[str, Proposals]]:
    unreadable: dict[str, str] = {}
    for image, found in search_images(_decoded(items, unreadable), setting, workers):
        yield image, _nothing(found.reason) if isinstance(found, NoProposals) else _unscored(found)
    yield from ((image, _nothing(reason)) for image, reason in unreadable.items())


def _decoded(items: Sequence[Item], unreadable: dict[str, str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images uint8 [height, width, 3]; the reasons of those that cannot be read go into `unreadable`."""
    for item in items:
        try:
            yield item.id, pixels.decode(item.read()).permute(1, 2, 0).numpy()
        except UnreadableImageError as error:
            unreadable[item.id] = str(error)


def _by_network(items: Sequence[Item], network: MultiBox, most: int) -> Iterator[tuple[str, Proposals]]:
    unreadable: dict[str, str] = {}
    images = _decoded(items, unreadable)
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
    yield from ((image, _nothing(reason)) for image, reason in unreadable.items())


def _unscored(boxes: NDArray[np.float64]) -> Proposals:
    return Proposals(boxes, np.zeros(len(boxes)))


def _nothing(reason: str) -> Proposals:
    return replace(_unscored(np.zeros((0, 4))), reason=reason)


def _key(dataset: Dataset, settings: ProposeSettings, name: str) -> dict[str, Any]:
    """What the proposals of a set depend on."""
    key: dict[str, Any] = {"dataset": dataset.sha256}
    if name in _SETTINGS:
        return key | asdict(_SETTINGS[name]) | {"opencv": _version("opencv-contrib-python-headless")}
    if name == FROM_FILE:
        assert settings.from_file is not None
        return key | {"file": sha256_of(settings.from_file)}
    assert settings.multibox is not None
    return key | {"multibox": sha256_of(settings.multibox), "multibox_boxes": settings.multibox_boxes}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _finish(out: Path, dataset: Dataset, keys: Mapping[str, Mapping[str, Any]]) -> Finished:
    """Write the record and the list of what has no proposals, once nothing is missing of these sets."""
    every = {**_finished_before(out, dataset), **keys}
    parts = {name: parts_of(out, name, key) for name, key in every.items()}
    if any(len(parts[name].images()) < len(dataset.items) for name in keys):
        return Finished(False, {}, ())
    means, failed = {}, []
    for name, each in parts.items():
        images, boxes = sorted(each.images()), 0
        for image in images:
            [row] = each.rows(image)
            boxes += len(row["boxes"]) // 4
            if row["reason"] is not None:
                failed.append((image, name, str(row["reason"])))
        means[name] = boxes / max(1, len(images))
    write_atomically(out / UNREADABLE_FILE, csv_text(["image", "proposals", "reason"], failed).encode())
    record = {"dataset": dataset.sha256, "images": len(dataset.items), "sets": every, "boxes": means}
    record |= {"failed": failed, "torch": torch.__version__}
    _write_record(out, record)
    return Finished(True, means, tuple(failed))


def _write_record(out: Path, record: Mapping[str, Any]) -> None:
    write_atomically(out / RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())


def _finished_before(out: Path, dataset: Dataset) -> Mapping[str, Mapping[str, Any]]:
    """Sets of the same images that earlier commands finished, with what they depend on."""
    if not (out / RECORD_FILE).is_file():
        return {}
    record = read_record(out)
    return record["sets"] if record["dataset"] == dataset.sha256 else {}
