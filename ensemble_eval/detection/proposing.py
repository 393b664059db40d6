"""The job `propose`: boxes that may hold an object, searched in every image and stored set by set."""

import functools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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
from ensemble_eval.detection.formats import PROPOSE, PROPOSE_RECORD, ProposeKey
from ensemble_eval.detection.multibox import best_boxes, load_multibox
from ensemble_eval.detection.proposals import Proposals, read_record, row_of
from ensemble_eval.detection.selective_search import (
    DOUBLED,
    RCNN,
    NoProposals,
    Setting,
    require_opencv,
    search_images,
)
from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.files import csv_text, sha256_of, write_atomically
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.prefetch import waiting
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.runner import ImageRows, Job, Worker
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.settings import FROM_FILE, PROPOSAL_SETS, ProposeSettings
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store
from ensemble_eval.tables.table import Column, Table

_SETTINGS: Mapping[str, Setting] = {"rcnn": RCNN, "doubled": DOUBLED}
# Of some images, in so many processes.
Method = Callable[[Sequence[Item], int], Iterator[tuple[str, Proposals]]]
_BATCH_SIZE = 16
UNREADABLE_FILE = "unreadable.csv"
_PARTIAL_COLUMNS = (
    Column("proposals", "proposals"),
    Column("images", "images", "count"),
    Column("boxes", "boxes an image", "number"),
)


@dataclass(frozen=True)
class Proposed:
    """What is there in the end.

    Attributes:
        boxes: The mean number of boxes for an image, by set.
        failed: Images without proposals of a set: their id, the set and the reason.
    """

    boxes: Mapping[str, float]
    failed: tuple[tuple[str, str, str], ...]


class ProposeJob(Job[ProposeSettings, Proposed]):
    """Propose boxes in every image of a data set, set by set.

    Args:
        dataset: The images.
        settings: What is proposed, and where it is stored.

    Raises:
        InputError: A set cannot be had.
    """

    units = "searches"

    def __init__(self, dataset: Dataset, settings: ProposeSettings) -> None:
        self.settings, self._dataset = settings, dataset
        self._methods = _methods(dataset, settings)
        keys = {name: _key(dataset, settings, name) for name in self._methods}
        self.folders = [Folder(Store(settings.out, PROPOSE[name], key), dataset) for name, key in keys.items()]

    def check(self, ranks: int) -> Iterable[str]:
        """See `Job`; what cannot be used was refused when the job was made."""
        del ranks
        return ()

    def start(self, process: Process, stop: StopRequests) -> Worker:
        """See `Job`."""
        workers = self.settings.workers or max(1, usable_processors() // process.sharing)
        return _ProposeWorker(self._dataset, self._methods, workers, stop)

    def discard(self) -> None:
        """See `Job`: these sets are not finished any more, and others stay so."""
        record = self.settings.out / PROPOSE_RECORD
        if not record.is_file():
            return
        others = {
            name: Store(self.settings.out, PROPOSE[name], key)
            for name, key in read_record(self.settings.out)["sets"].items()
            if name not in self._methods
        }
        for store in others.values():
            store.peek()
        if others:
            write_record(self.settings.out, others)
        else:
            record.unlink()

    def describe(self, where: str) -> tuple[str, ...]:
        """See `Job`."""
        return (f"{', '.join(self._methods)} on {len(self._dataset.items)} images, {where}",)

    def finish(self) -> Proposed:
        """See `Job`. Sets of the same images that earlier commands finished stay in the record."""
        stores = {name: folder.store for name, folder in zip(self._methods, self.folders, strict=True)}
        for name, key in _finished_before(self.settings.out, self._dataset).items():
            if name not in stores:
                stores[name] = Store(self.settings.out, PROPOSE[name], key)
                stores[name].open()
        return write_record(self.settings.out, stores)

    def partial_table(self) -> Table | None:
        """See `Job`: the mean number of boxes of the images that are done, by set."""
        stores = {name: folder.store for name, folder in zip(self._methods, self.folders, strict=True)}
        rows = tuple((name, len(store.progress.done), _mean_boxes(store)) for name, store in stores.items())
        return Table("partial", "Proposals of the images that are done", _PARTIAL_COLUMNS, rows)


class _ProposeWorker:
    device = torch.device("cpu")
    # Fixed, so that boxes do not depend on which images share a batch.
    batch_size = _BATCH_SIZE

    def __init__(self, dataset: Dataset, methods: Mapping[str, Method], workers: int, stop: StopRequests) -> None:
        self._dataset, self._methods, self._workers, self._stop = dataset, methods, workers, stop

    def results(self, folder: Folder[Any], positions: Sequence[int]) -> Generator[ImageRows, None, None]:
        """See `Worker`. An image without proposals has a row with the reason."""
        name = folder.store.folder.name
        found = self._methods[name]([self._dataset.items[position] for position in positions], self._workers)
        for image, proposals in waiting(found, self._stop):
            yield ImageRows(image, [row_of(image, name, proposals)])

    def notices(self) -> list[str]:
        """See `Worker`."""
        return []


def _methods(dataset: Dataset, settings: ProposeSettings) -> dict[str, Method]:
    """What proposes each of the sets, opened, in the order of `PROPOSAL_SETS`."""
    methods: dict[str, Method] = {}
    for name, setting in _SETTINGS.items():
        if name in settings.sets:
            require_opencv()
            methods[name] = functools.partial(_searched, setting=setting)
    if "multibox" in settings.sets and settings.multibox is not None:
        network = load_multibox(settings.multibox)
        methods["multibox"] = functools.partial(_by_network, network=network, most=settings.multibox_boxes)
    if settings.from_file is not None:
        by_image = read_box_file(settings.from_file, dataset)
        methods[FROM_FILE] = lambda items, _: ((item.id, by_image[item.id]) for item in items)
    return methods


def _searched(items: Sequence[Item], workers: int, setting: Setting) -> Iterator[tuple[str, Proposals]]:
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


def _by_network(
    items: Sequence[Item], _workers: int, network: MultiBox, most: int
) -> Iterator[tuple[str, Proposals]]:
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


def _key(dataset: Dataset, settings: ProposeSettings, name: str) -> ProposeKey:
    """What the proposals of a set depend on."""
    if name in _SETTINGS:
        method = asdict(_SETTINGS[name]) | {"opencv": _version("opencv-contrib-python-headless")}
    elif name == FROM_FILE:
        assert settings.from_file is not None
        method = {"file": sha256_of(settings.from_file)}
    else:
        assert settings.multibox is not None
        method = {"multibox": sha256_of(settings.multibox), "multibox_boxes": settings.multibox_boxes}
    return ProposeKey(dataset=dataset.sha256, images=len(dataset.items), method=method).stored()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _mean_boxes(store: Store[ProposeKey]) -> float:
    boxes = store.frame(["image", "boxes"])["boxes"]
    return float(boxes.map(len).sum() / 4 / max(1, len(boxes)))


def write_record(out: Path, stores: Mapping[str, Store[ProposeKey]]) -> Proposed:
    """Write the record of some finished sets of the same images, and the list of what has no proposals."""
    stores = {name: stores[name] for name in PROPOSAL_SETS if name in stores}
    means, failed = {}, []
    for name, store in stores.items():
        means[name] = _mean_boxes(store)
        rows = store.frame(["image", "reason"]).dropna()
        failed += [(image, name, reason) for image, reason in zip(rows["image"], rows["reason"], strict=True)]
    write_atomically(out / UNREADABLE_FILE, csv_text(["image", "proposals", "reason"], failed).encode())
    keys = {name: store.key for name, store in stores.items()}
    some_key = next(iter(keys.values()))
    record = {"dataset": some_key.dataset, "images": some_key.images}
    record |= {"sets": {name: key.to_json() for name, key in keys.items()}, "boxes": means}
    record |= {"failed": failed, "torch": torch.__version__}
    write_atomically(out / PROPOSE_RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return Proposed(means, tuple(failed))


def _finished_before(out: Path, dataset: Dataset) -> Mapping[str, ProposeKey]:
    """Sets of the same images that earlier commands finished, with their keys."""
    if not (out / PROPOSE_RECORD).is_file():
        return {}
    record = read_record(out)
    return record["sets"] if record["dataset"] == dataset.sha256 else {}
