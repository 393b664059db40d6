"""The job `propose`: it proposes boxes that may hold an object, set by set, and counts the objects they cover."""

import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_eval.backends.full_float32 import full_float32
from ensemble_eval.crops import pixels
from ensemble_eval.crops.protocols import CROP_SIZE
from ensemble_eval.datasets.boxes import Boxes, Objects, read_box_table
from ensemble_eval.datasets.items import Dataset, Item
from ensemble_eval.detection.formats import PROPOSE, ProposeKey
from ensemble_eval.detection.multibox import best_boxes, load_multibox
from ensemble_eval.detection.proposals import Proposals, failures_in, finished_sets, row_of, sets_of, united
from ensemble_eval.detection.selective_search import DOUBLED, RCNN, Setting, require_opencv, search_images
from ensemble_eval.errors import UnreadableImageError
from ensemble_eval.files import csv_text, sha256_of, write_atomically
from ensemble_eval.jobs.cpu import usable_processors
from ensemble_eval.jobs.job import ImageRows, Job, Worker
from ensemble_eval.jobs.prefetch import interruptible
from ensemble_eval.jobs.process import Process
from ensemble_eval.jobs.signals import StopRequests
from ensemble_eval.members.imported import InputFormat
from ensemble_eval.members.preprocessing import Preprocessing
from ensemble_eval.models.multibox import MultiBox
from ensemble_eval.scoring.coverage import Coverage
from ensemble_eval.settings import FROM_FILE, ProposeSettings
from ensemble_eval.store import record
from ensemble_eval.store.folder import Folder
from ensemble_eval.store.store import Store
from ensemble_eval.tables.drawing import COLOURS, MARKERS, Description, Plot
from ensemble_eval.tables.table import FilledColumn, Table, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SETTINGS: Mapping[str, Setting] = {"rcnn": RCNN, "doubled": DOUBLED}
_BATCH_SIZE = 16
UNREADABLE_FILE, COVERAGE_FILE = "unreadable.csv", "coverage.csv"
_BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 10_000)
# Sets without scores have no best boxes, so their order is drawn.
_SEED = 0


_Find = Callable[[Sequence[Item], int], Iterator[tuple[str, Proposals]]]
"""Finds the boxes of some images, in so many processes."""


@dataclass(frozen=True)
class Proposed:
    """What `propose` has stored.

    Attributes:
        boxes: The mean number of boxes in an image, by set.
        failed: Images without proposals of a set: their id, the set and the reason.
    """

    boxes: Mapping[str, float]
    failed: tuple[tuple[str, str, str], ...]


class ProposeJob(Job[ProposeSettings, Proposed]):
    """Propose boxes in every image of a data set, set by set.

    Args:
        dataset: The images.
        settings: The sets to propose, and the folder for them.

    Raises:
        InputError: A set needs a package or a file that is missing or cannot be used.
    """

    units = "searches"
    folders: list[Folder[ProposeKey]]

    def __init__(self, dataset: Dataset, settings: ProposeSettings) -> None:
        self.settings, self._dataset = settings, dataset
        self.folders, self._finds = [], dict[str, _Find]()
        for name, parameters, find in _methods(dataset, settings):
            key = ProposeKey(dataset=dataset.sha256, images=len(dataset.items), method=parameters)
            self.folders.append(Folder(Store(settings.out, PROPOSE[name], key.stored()), dataset))
            self._finds[name] = find

    def start(self, process: Process, stop: StopRequests) -> Worker:
        """Share the processors among the ranks."""
        workers = self.settings.workers or max(1, usable_processors() // process.sharing)
        return _ProposeWorker(self._finds, workers, stop)

    def describe(self, hardware: str) -> tuple[str, ...]:
        """Name the sets."""
        return (f"{', '.join(self._finds)} on {len(self._dataset.items)} images, {hardware}",)

    def finish(self) -> Proposed:
        """Record the sets; sets of the same images that earlier commands finished count too."""
        return finish_sets(
            [folder.store for folder in self.folders], {"arguments": record.as_json(vars(self.settings))}
        )

    def partial_table(self) -> Table:
        """The mean number of boxes of the images that are done, by set."""
        columns: list[FilledColumn[Store[ProposeKey]]] = [
            ("proposals", "proposals", "text", lambda store: store.folder.name),
            ("images", "images", "count", lambda store: len(store.peek().done)),
            ("boxes", "boxes an image", "number", _mean_boxes),
        ]
        stores = [folder.store for folder in self.folders]
        return table_of("partial", "Proposals of the images that are done", stores, columns)


class _ProposeWorker:
    device = torch.device("cpu")
    # Fixed, so that boxes do not depend on which images share a batch.
    batch_size = _BATCH_SIZE

    def __init__(self, finds: Mapping[str, _Find], workers: int, stop: StopRequests) -> None:
        self._finds, self._workers, self._stop = finds, workers, stop

    def results(self, folder: Folder[Any], positions: Sequence[int]) -> Generator[ImageRows, None, None]:
        """The row of each image; without proposals it has the reason."""
        name = folder.store.folder.name
        found = self._finds[name]([folder.dataset.items[position] for position in positions], self._workers)
        for image, proposals in interruptible(found, self._stop):
            yield ImageRows(image, [row_of(image, name, proposals)])

    def notices(self) -> list[str]:
        """There are none."""
        return []


def _methods(dataset: Dataset, settings: ProposeSettings) -> Iterator[tuple[str, Mapping[str, Any], _Find]]:
    """The sets in the order of `PROPOSAL_SETS`, with what their boxes depend on and how they are found."""
    for name, setting in _SETTINGS.items():
        if name in settings.sets:
            require_opencv()
            installed = metadata.distributions(name="opencv-contrib-python-headless")
            parameters = asdict(setting) | {"opencv": next((each.version for each in installed), None)}
            yield name, parameters, functools.partial(_searched, setting=setting)
    if "multibox" in settings.sets and settings.multibox is not None:
        network, most = load_multibox(settings.multibox), settings.multibox_boxes
        parameters = {"multibox": sha256_of(settings.multibox), "multibox_boxes": most}
        yield "multibox", parameters, functools.partial(_by_network, network=network, most=most)
    if settings.from_file is not None:
        by_image = read_box_table(settings.from_file, [item.id for item in dataset.items])
        yield (
            FROM_FILE,
            {"file": sha256_of(settings.from_file)},
            lambda items, _: ((item.id, Proposals(*by_image[item.id])) for item in items),
        )


def _searched(items: Sequence[Item], workers: int, setting: Setting) -> Iterator[tuple[str, Proposals]]:
    unreadable: dict[str, str] = {}
    for image, found in search_images(_decoded(items, unreadable), setting, workers):
        yield image, _nothing(found) if isinstance(found, str) else Proposals(found, np.zeros(len(found)))
    yield from ((image, _nothing(reason)) for image, reason in unreadable.items())


def _by_network(
    items: Sequence[Item], _workers: int, network: MultiBox, most: int
) -> Iterator[tuple[str, Proposals]]:
    unreadable: dict[str, str] = {}
    images = _decoded(items, unreadable)
    preprocess = Preprocessing(InputFormat())
    while batch := list(itertools.islice(images, _BATCH_SIZE)):
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


def _decoded(items: Sequence[Item], unreadable: dict[str, str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images uint8 [height, width, 3]; for those that cannot be read, the reason goes into `unreadable`."""
    for item in items:
        try:
            yield item.id, pixels.decode(item.read()).permute(1, 2, 0).numpy()
        except UnreadableImageError as error:
            unreadable[item.id] = str(error)


def _nothing(reason: str) -> Proposals:
    return Proposals(np.zeros((0, 4)), np.zeros(0), reason)


def _mean_boxes(store: Store[ProposeKey]) -> float:
    boxes = store.frame(["image", "boxes"])["boxes"]
    return float(boxes.map(len).sum() / 4 / max(1, len(boxes)))


def finish_sets(stores: Sequence[Store[ProposeKey]], start: record.Record) -> Proposed:
    """Write the records of complete sets, and list the images without proposals in their folder.

    Args:
        stores: The stores of the sets, complete, in one folder and of the same images.
        start: The facts about the start of the job.
    """
    out, dataset = stores[0].out, stores[0].key.dataset
    for store in stores:
        facts = {**start, "versions": record.versions(), **record.counts(store.progress)}
        record.write(out, store.form, {**facts, "key": store.key.to_json()})
    # Earlier commands may have finished others.
    finished = {name: store for name, store in finished_sets(out).items() if store.key.dataset == dataset}
    failed = failures_in(finished)
    write_atomically(out / UNREADABLE_FILE, csv_text(["image", "proposals", "reason"], failed).encode())
    return Proposed({name: _mean_boxes(store) for name, store in finished.items()}, tuple(failed))


def coverage_of_sets(
    proposals: Mapping[str, Mapping[str, Proposals]], objects: Mapping[str, Objects], names: Sequence[str]
) -> dict[str, Coverage]:
    """The coverage of every configuration of the sets, by its name.

    Boxes are ordered by their scores; a seed draws the order of boxes without scores, which come last.
    """
    counts = {sets: Coverage(_BUDGETS) for sets in sets_of(names)}
    for number, (image, shown) in enumerate(sorted(objects.items())):
        of_image = proposals[image]
        for sets, count in counts.items():
            count.add(shown, _ordered(united(of_image, sets), number))
    return {" + ".join(sets): count for sets, count in counts.items()}


def write_coverage(out: Path, found: Mapping[str, Coverage]) -> Path:
    """Write `coverage.csv`, a row for every configuration and number of proposals; return its path."""
    columns = ["proposals", "boxes", "coverage", "mean_coverage", "objects", "proposals_per_image"]
    lines = [
        [name, str(boxes), f"{half:.6f}", f"{mean:.6f}", str(each.objects), f"{each.boxes_per_image:.2f}"]
        for name, each in found.items()
        for boxes, half, mean in zip(each.budgets, each.at_half, each.mean, strict=True)
    ]
    path = out / COVERAGE_FILE
    write_atomically(path, csv_text(columns, lines).encode())
    return path


def coverage_plot(found: Mapping[str, Coverage]) -> Plot:
    """The objects that each set of proposals covers by half, against the number of proposals of an image.

    Args:
        found: The coverage of each set, by its name.
    """

    def draw(plot: "Axes") -> Description:
        for position, (name, each) in enumerate(found.items()):
            # Beyond the number of proposals a curve would only stay level.
            reached = [budget for budget in each.budgets if budget < 1.5 * each.boxes_per_image]
            plot.plot(
                reached,
                100 * each.at_half[: len(reached)],
                f"{MARKERS[position % 3]}-",
                color=COLOURS[position % 3],
                markersize=4,
                label=f"{name} ({each.boxes_per_image:.0f} an image)",
            )
        plot.set_xscale("log")
        plot.set_ylim(0, 100)
        plot.grid()
        plot.set(axisbelow=True, xlabel="proposals of each image", ylabel="coverage at an overlap of 0.5, percent")
        plot.legend(loc="lower right")
        said = "; ".join(
            f"{name} {100 * each.at_half[-1]:.1f}% with {each.boxes_per_image:.0f} an image"
            for name, each in found.items()
        )
        return Description(f"Objects that proposals find: {said}.")

    return Plot("coverage", "Coverage by number of proposals", "coverage", draw, 3.6)


def _ordered(proposals: Proposals, number: int) -> Boxes:
    drawn = np.random.default_rng((_SEED, number)).random(len(proposals.scores))
    return proposals.boxes[np.lexsort((drawn, -proposals.scores))]
